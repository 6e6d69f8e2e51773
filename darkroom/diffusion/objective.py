"""The training objective of diffusion (papers C.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.diffusion.draws import RowDraws
from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError, require
from darkroom.types import Network

__all__ = ["DiffusionLossConfig", "diffusion_loss"]


@dataclass(frozen=True)
class DiffusionLossConfig:
    loss_type: Literal["l2", "l1", "huber"] = "l2"
    huber_c: float = 0.1  # where the Huber loss turns from a parabola into lines: sqrt(error² + c²) − c, times 2 c
    min_snr_gamma: float | None = None  # of min-SNR weighting (arXiv:2303.09556); None: every timestep weighs the same
    weighting: Literal["none", "p2", "debiased", "edm"] = "none"  # of timesteps, in place of min-SNR's
    offset_noise: float = 0.0  # share of noise that is constant over space
    input_perturbation: float = 0.0  # noise added to the network's input alone, 0.1 is usual (arXiv:2301.11706)
    min_timestep: int = 0  # train on timesteps min … max only (refiner: 0 … 199)
    max_timestep: int = 999
    logit_normal: tuple[float, float] | None = None  # mean and deviation of logit(t / steps); None: t is uniform
    last_share: float = 0.0  # of samples that stand at the last timestep, where only the conditioning tells anything …
    late_share: float = 0.0  # … and of samples drawn from `late_timestep` up, where a picture is laid out
    late_timestep: int = 700
    learned_variance: bool = False  # losses at each timestep relative to what is learned to be expected there

    def __post_init__(self) -> None:
        require(0 < self.huber_c < math.inf, "huber_c", self.huber_c, "a number above 0")
        both = self.min_snr_gamma is not None and self.weighting != "none"
        require(not both, "weighting", self.weighting, '"none" beside min_snr_gamma')
        for name in ("offset_noise", "input_perturbation"):
            require(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "a number from 0 up")
        if not 0 <= self.min_timestep <= self.max_timestep:
            raise InputError(f"timesteps {self.min_timestep} … {self.max_timestep} are not a range")
        if min(self.last_share, self.late_share) < 0 or self.last_share + self.late_share > 1:
            raise InputError(f"last_share {self.last_share} and late_share {self.late_share} are not shares of a whole")
        if self.late_share and not self.min_timestep <= self.late_timestep <= self.max_timestep:
            raise InputError(
                f"late_timestep is {self.late_timestep}, expected is {self.min_timestep} to {self.max_timestep}"
            )

    def timesteps(self, draws: RowDraws) -> Tensor:
        """(B,) in int64: uniform, or by the shares, of which each step then gets its part."""
        width = self.max_timestep + 1 - self.min_timestep
        if self.logit_normal is not None:
            mean, deviation = self.logit_normal
            return self.between(torch.sigmoid(mean + deviation * draws.normal()))
        if not self.last_share and not self.late_share:
            return self.between(draws.uniform())
        share = draws.stratified()
        late, last = 1 - self.last_share - self.late_share, 1 - self.last_share
        anywhere = self.min_timestep + share / max(late, 1e-9) * width
        noisy = self.late_timestep + (share - late) / max(self.late_share, 1e-9) * (
            self.max_timestep + 1 - self.late_timestep
        )
        t = torch.where(share < late, anywhere, torch.where(share < last, noisy, self.max_timestep))
        return t.long().clamp(self.min_timestep, self.max_timestep)

    def between(self, shares: Tensor) -> Tensor:
        """(B,) in int64: the timesteps at `shares` (B,), 0 … 1, of the range that is trained on."""
        width = self.max_timestep + 1 - self.min_timestep
        return (self.min_timestep + shares * width).long().clamp(self.min_timestep, self.max_timestep)


def diffusion_loss(
    process: DiffusionProcess,
    network: Network,
    z0: Tensor,
    config: DiffusionLossConfig,
    draws: RowDraws,
    *,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
    timesteps: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Losses (B,) and timesteps (B,) for clean latents z0 (B, C, h, w): t as `config` draws it, one noise per sample.

    `weights` (B,) multiply the losses of samples, `mask` (B, 1, h, w) those of places. `timesteps` (B,) in int64 are
    taken in place of drawn ones.
    """
    if config.max_timestep >= process.schedule.steps:
        raise InputError(
            f"the last timestep is {config.max_timestep}; the process has 0 to {process.schedule.steps - 1}"
        )
    t = config.timesteps(draws) if timesteps is None else timesteps
    noise = draws.normal(*z0.shape[1:])
    if config.offset_noise:
        noise = noise + config.offset_noise * draws.normal(z0.shape[1], 1, 1)
    shown = noise + config.input_perturbation * draws.normal(*z0.shape[1:]) if config.input_perturbation else noise
    noise, shown, t = noise.to(z0), shown.to(z0), t.to(z0.device)
    output = network(process.add_noise(z0, shown, t), t).float()
    loss = _error(output - process.target(z0, noise, t).float(), config)
    if mask is not None:
        loss = loss * mask.to(loss)
    loss = loss.flatten(1).mean(dim=1)
    if (weight := _timestep_weight(process, t, config)) is not None:
        loss = loss * weight.to(loss)
    if weights is not None:
        loss = loss * weights.to(loss)
    return loss, t


def _error(difference: Tensor, config: DiffusionLossConfig) -> Tensor:
    match config.loss_type:
        case "l2":
            return difference.square()
        case "l1":
            return difference.abs()
        case "huber":
            c = config.huber_c
            return 2 * c * ((difference.square() + c**2).sqrt() - c)


def _timestep_weight(process: DiffusionProcess, t: Tensor, config: DiffusionLossConfig) -> Tensor | None:
    """(B,), None where every timestep weighs the same. Weights are of the error of z0, over what the plain loss has."""
    if config.min_snr_gamma is None and config.weighting == "none":
        return None
    snr = process.sigmas[t.cpu()] ** -2
    plain = process.loss_weight(t)  # what the plain loss weighs the error of z0 with
    if config.min_snr_gamma is not None:
        weight = snr.clamp(max=config.min_snr_gamma)
    elif config.weighting == "p2":
        weight = snr / (1 + snr)  # arXiv:2204.00227 with k = gamma = 1: the loss of noise over 1 + SNR
    elif config.weighting == "debiased":
        weight = snr.sqrt()  # arXiv:2310.08442: the loss of noise over the square root of SNR
    else:  # arXiv:2206.00364, table 1: (sigma² + sigma_data²) / (sigma · sigma_data)², sigma_data = 1 after scaling
        weight = snr + 1
    return weight / plain
