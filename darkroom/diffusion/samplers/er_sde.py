"""ER-SDE (Cui et al. 2023): the extended reverse-time SDE, whose noise a function of the level rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import expect, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["ErSdeOptions", "er_sde"]

POINTS = 200  # of the sums that stand for integrals, as in the authors' code


@dataclass(frozen=True)
class ErSdeOptions:
    s_noise: float = 1.0
    max_stage: int = 3  # how many estimates are used

    def __post_init__(self) -> None:
        expect(s_noise=self.s_noise)
        expect(1, 3, max_stage=self.max_stage)


def _scale(sigma: Tensor) -> Tensor:
    """phi(sigma) of the paper, its fifth choice: the larger it grows, the more of the noise is fresh."""
    return sigma * ((sigma**0.3).exp() + 10)


def er_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: ErSdeOptions) -> Iterator[Step]:
    """The solver of third order, in the variance-exploding form."""
    old_x0: Tensor | None = None
    old_slope: Tensor | None = None
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        if sigma_next == 0:
            x = x0
        else:
            r, h = _scale(sigma_next) / _scale(sigma), sigma_next - sigma
            x = r * x + (1 - r) * x0
            if old_x0 is not None and options.max_stage >= 2:
                width = -h / POINTS
                at = sigma_next + torch.arange(POINTS, dtype=sigmas.dtype) * width
                weight = width * _scale(sigma_next) / _scale(at)
                slope = (x0 - old_x0) / (sigma - sigmas[i - 1])
                x = x + (h + weight.sum()) * slope
                if old_slope is not None and options.max_stage >= 3:
                    bend = (slope - old_slope) / ((sigma - sigmas[i - 2]) / 2)
                    x = x + (h**2 / 2 + (weight * (at - sigma)).sum()) * bend
                old_slope = slope
            if options.s_noise > 0:
                spread = (sigma_next**2 - (sigma * r) ** 2).clamp(min=0).sqrt()
                x = x + spread * options.s_noise * noise(sigma, sigma_next)
        old_x0 = x0
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(SamplerEntry("ER SDE", er_sde, ("er_sde",), ErSdeOptions))
