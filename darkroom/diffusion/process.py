"""A noise schedule and what the network predicts: the one place that translates noise levels and timesteps."""

from __future__ import annotations

import torch
from torch import Tensor

from darkroom.diffusion.prediction import Prediction, find_prediction
from darkroom.noise_schedule import NoiseSchedule
from darkroom.types import Denoise, Network

__all__ = ["DiffusionProcess"]


class DiffusionProcess:
    """Noise levels in both conventions. VP: z = sqrt(a) z0 + sqrt(1 − a) eps. VE: x = z / sqrt(a) = z0 + sigma eps."""

    def __init__(self, schedule: NoiseSchedule, prediction: str) -> None:
        self.schedule = schedule
        self.prediction = find_prediction(prediction)
        self.alphas_cumprod = schedule.alphas_cumprod()  # (T,) float64
        self.sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()  # (T,) float64, rising
        self.log_sigmas = self.sigmas.log()

    def sigma_to_t(self, sigma: Tensor, *, quantize: bool = False) -> Tensor:
        """Timestep of `sigma`, float64: linear in ln sigma between levels, or the nearest level."""
        log_sigma = sigma.double().cpu().clamp(min=1e-10).log()
        if quantize:
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

    def scalings(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(c_skip, c_out, c_in) of D(x, sigma) = c_skip x + c_out F(c_in x), shaped like `sigma` (papers C.2).

        All that follows from what the network predicts is here: the denoiser, its target and the weight of its error.
        """
        variance = sigma.square() + 1
        c_in = variance.rsqrt()
        if self.prediction == Prediction.EPS:
            return torch.ones_like(sigma), -sigma, c_in
        if self.prediction == Prediction.V:
            return 1 / variance, -sigma * c_in, c_in
        return torch.zeros_like(sigma), torch.ones_like(sigma), c_in

    def denoiser(self, network: Network, *, quantize: bool = False) -> Denoise:
        """D(x, sigma) around the raw `network`; `quantize`: it is told whole timesteps, the nearest ones."""

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            level = torch.as_tensor(sigma).double().cpu().expand(len(x))
            t = self.sigma_to_t(level, quantize=quantize).to(x.device, torch.float32)
            c_skip, c_out, c_in = self.scalings(level.to(x.device).float().view(-1, 1, 1, 1))
            return c_skip * x + c_out * network(c_in * x, t).to(x.dtype)

        return denoise

    def add_noise(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The VP latent at the integer timesteps t (B,)."""
        signal, spread = self._vp(t, z0)
        return signal * z0 + spread * noise

    def target(self, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should output at t: the F for which D(z0 + sigma noise, sigma) is z0."""
        sigma = self.sigmas[t.cpu()].view(-1, 1, 1, 1)
        c_skip, c_out, _ = self.scalings(sigma)
        return ((1 - c_skip) / c_out).to(z0) * z0 - (c_skip * sigma / c_out).to(z0) * noise

    def loss_weight(self, t: Tensor) -> Tensor:
        """What the plain loss on the network's output weighs the error of z0 with: 1 / c_out², float64 (B,)."""
        return self.scalings(self.sigmas[t.cpu()])[1] ** -2

    def _vp(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        a = self.alphas_cumprod[t.cpu()].view(-1, 1, 1, 1)
        return a.sqrt().to(like), (1 - a).sqrt().to(like)
