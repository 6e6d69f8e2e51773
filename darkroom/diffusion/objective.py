"""The training objective of diffusion (papers C.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError
from darkroom.types import Network

__all__ = ["DiffusionLossConfig", "diffusion_loss"]


@dataclass(frozen=True)
class DiffusionLossConfig:
    norm: Literal["l2", "l1"] = "l2"
    min_snr: float | None = None  # gamma of min-SNR weighting; None: every timestep weighs the same
    offset_noise: float = 0.0  # share of noise that is constant over space
    first_timestep: int = 0  # train on timesteps first … last only (refiner: 0 … 199)
    last_timestep: int = 999
    last_share: float = 0.0  # of samples that stand at the last timestep, where only the conditioning tells anything …
    late_share: float = 0.0  # … and of samples drawn from `late_timestep` up, where a picture is laid out
    late_timestep: int = 700

    def __post_init__(self) -> None:
        if not 0 <= self.first_timestep <= self.last_timestep:
            raise InputError(f"timesteps {self.first_timestep} … {self.last_timestep} are not a range")
        if min(self.last_share, self.late_share) < 0 or self.last_share + self.late_share > 1:
            raise InputError(f"last_share {self.last_share} and late_share {self.late_share} are not shares of a whole")
        if self.late_share and not self.first_timestep <= self.late_timestep <= self.last_timestep:
            raise InputError(
                f"late_timestep is {self.late_timestep}, expected is {self.first_timestep} to {self.last_timestep}"
            )

    def timesteps(self, count: int, generator: Generator) -> Tensor:
        """(count,) in int64: uniform, or by the shares, of which each batch then gets its part."""
        if not self.last_share and not self.late_share:
            return torch.randint(self.first_timestep, self.last_timestep + 1, (count,), generator=generator)
        # One row in every 1/count of 0 … 1.
        share = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
        late, last = 1 - self.last_share - self.late_share, 1 - self.last_share
        anywhere = self.first_timestep + share / max(late, 1e-9) * (self.last_timestep + 1 - self.first_timestep)
        noisy = self.late_timestep + (share - late) / max(self.late_share, 1e-9) * (
            self.last_timestep + 1 - self.late_timestep
        )
        t = torch.where(share < late, anywhere, torch.where(share < last, noisy, self.last_timestep))
        return t.long().clamp(self.first_timestep, self.last_timestep)


def diffusion_loss(
    process: DiffusionProcess,
    network: Network,
    z0: Tensor,
    config: DiffusionLossConfig,
    generator: Generator,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Losses (B,) and timesteps (B,) for clean latents z0 (B, C, h, w): t as `config` draws it, one noise per sample.

    `weights` (B,) multiply the losses of samples.
    """
    if config.last_timestep >= process.schedule.steps:
        raise InputError(
            f"the last timestep is {config.last_timestep}; the process has 0 to {process.schedule.steps - 1}"
        )
    t = config.timesteps(len(z0), generator)
    noise = torch.randn(z0.shape, generator=generator)
    if config.offset_noise:
        noise = noise + config.offset_noise * torch.randn((*z0.shape[:2], 1, 1), generator=generator)
    noise, t = noise.to(z0), t.to(z0.device)
    output = network(process.add_noise(z0, noise, t), t).float()
    error = output - process.target(z0, noise, t).float()
    loss = (error.square() if config.norm == "l2" else error.abs()).flatten(1).mean(dim=1)
    if config.min_snr is not None:
        loss = loss * _min_snr_weight(process, t, config.min_snr).to(loss)
    if weights is not None:
        loss = loss * weights.to(loss)
    return loss, t


def _min_snr_weight(process: DiffusionProcess, t: Tensor, gamma: float) -> Tensor:
    """min(SNR, gamma) over what the plain loss weighs the error of z0 with."""
    snr = process.sigmas[t.cpu()] ** -2
    return snr.clamp(max=gamma) / process.loss_weight(t)
