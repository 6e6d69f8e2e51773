"""Euler's method on the probability-flow ODE, plain and ancestral (k-diffusion; Karras et al. 2022, algorithm 2)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from darkroom.diffusion.samplers.registry import SAMPLERS, ancestral, churned, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["euler", "euler_ancestral"]


def euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    *,
    s_churn: float = 0.0,  # noise added before each step, in all; 0 is the plain ODE
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """x' = x + (sigma' − sigma) (x − D) / sigma."""
    total = len(sigmas) - 1
    for i, sigma, following in levels(sigmas):
        churn = s_churn / total if s_tmin <= sigma <= s_tmax else 0.0
        x, level = churned(x, sigma, churn, s_noise, noise)
        x0 = denoise(x, level)
        x = x + (following - level) * (x - x0) / level
        yield Step(i, total, float(sigma), x, x0)


def euler_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """Euler down to sigma_down, then fresh noise up to sigma'. `eta` 0 is plain Euler."""
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        down, up = ancestral(sigma, following, eta)
        x = x + (down - sigma) * (x - x0) / sigma
        if up > 0:
            x = x + up * s_noise * noise(sigma, following)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


SAMPLERS.add("Euler", euler, "k_euler")
SAMPLERS.add("Euler a", euler_ancestral, "euler_ancestral", "k_euler_a", "k_euler_ancestral")
