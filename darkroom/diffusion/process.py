"""A noise schedule and what the network predicts: the one place that translates noise levels and timesteps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.types import Denoise, Network

__all__ = ["DiffusionProcess", "Prediction", "ScheduleConfig"]

Prediction = Literal["noise", "velocity", "data"]

# The last level of a schedule of zero terminal SNR keeps this much signal, so that its sigma stays finite (papers C.2).
LAST_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True)
class ScheduleConfig:
    """betas over `steps` levels (papers C.1). "scaled_linear": linear in sqrt(beta)."""

    kind: Literal["scaled_linear", "linear", "cosine"]
    beta_start: float = 0.0  # not read by "cosine"
    beta_end: float = 0.0
    steps: int = 1000
    zero_terminal_snr: bool = False

    def alphas_cumprod(self) -> Tensor:
        """alpha-bar (steps,) in float64, falling."""
        if self.kind == "cosine":
            t = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps
            alpha_bar = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
            betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
        elif self.kind == "linear":
            betas = torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)
        else:
            betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, dtype=torch.float64) ** 2
        alpha_bar = torch.cumprod(1 - betas, dim=0)
        if self.zero_terminal_snr:
            s = alpha_bar.sqrt()
            alpha_bar = ((s - s[-1]) * s[0] / (s[0] - s[-1])) ** 2
            alpha_bar[-1] = LAST_ALPHA_BAR
        return alpha_bar


class DiffusionProcess:
    """Noise levels in both conventions. VP: z = sqrt(a) z0 + sqrt(1 − a) eps. VE: x = z / sqrt(a) = z0 + sigma eps."""

    def __init__(self, schedule: ScheduleConfig, prediction: Prediction) -> None:
        self.schedule = schedule
        self.prediction: Prediction = prediction
        self.alphas_cumprod = schedule.alphas_cumprod()  # (T,) float64
        self.sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()  # (T,) float64, rising
        self.log_sigmas = self.sigmas.log()

    def sigma_to_t(self, sigma: Tensor, *, quantise: bool = False) -> Tensor:
        """Timestep of `sigma`, float64: linear in ln sigma between levels, or the nearest level."""
        log_sigma = sigma.double().cpu().clamp(min=1e-10).log()
        if quantise:
            return (log_sigma[..., None] - self.log_sigmas).abs().argmin(dim=-1).double()
        high = torch.searchsorted(self.log_sigmas, log_sigma.contiguous()).clamp(1, len(self.sigmas) - 1)
        low = high - 1
        share = (log_sigma - self.log_sigmas[low]) / (self.log_sigmas[high] - self.log_sigmas[low])
        return low + share.clamp(0, 1)

    def t_to_sigma(self, t: Tensor) -> Tensor:
        """sigma of the (possibly fractional) timestep `t`, float64: the inverse of `sigma_to_t`."""
        t = t.double().cpu().clamp(0, len(self.sigmas) - 1)
        low = t.floor().long().clamp(max=len(self.sigmas) - 2)
        share = t - low
        return ((1 - share) * self.log_sigmas[low] + share * self.log_sigmas[low + 1]).exp()

    def denoiser(self, network: Network, *, quantise: bool = False) -> Denoise:
        """D(x, sigma) = c_skip x + c_out F(c_in x, t(sigma)) around the raw `network` (papers C.2)."""

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            level = torch.as_tensor(sigma).double().cpu().expand(len(x))
            t = self.sigma_to_t(level, quantise=quantise).to(x.device, torch.float32)
            s = level.to(x.device).float().view(-1, 1, 1, 1)
            variance = s.square() + 1
            output = network(x * variance.rsqrt(), t).to(x.dtype)
            if self.prediction == "noise":
                return x - s * output
            if self.prediction == "velocity":
                return x / variance - output * s * variance.rsqrt()
            return output

        return denoise

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The VP latent at the integer timesteps t (B,)."""
        signal, spread = self._vp(t, z0)
        return signal * z0 + spread * noise

    def target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should output at t."""
        if self.prediction == "noise":
            return noise
        if self.prediction == "data":
            return z0
        signal, spread = self._vp(t, z0)
        return signal * noise - spread * z0

    def _vp(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        a = self.alphas_cumprod[t.cpu()].view(-1, 1, 1, 1)
        return a.sqrt().to(like), (1 - a).sqrt().to(like)
