"""Solvers with two evaluations a step: Heun and the DPM-Solver-2 of k-diffusion, plain and ancestral."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from darkroom.diffusion.samplers.registry import SAMPLERS, ancestral, churned, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "heun"]


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    *,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Euler's trial step, then the mean of the slopes at both ends (Karras et al. 2022, algorithm 2)."""
    total = len(sigmas) - 1
    for i, sigma, following in levels(sigmas):
        churn = s_churn / total if s_tmin <= sigma <= s_tmax else 0.0
        x, level = churned(x, sigma, churn, s_noise, noise)
        x0 = denoise(x, level)
        d = (x - x0) / level
        trial = x + (following - level) * d
        if following > 0:
            d = (d + (trial - denoise(trial, following)) / following) / 2
            trial = x + (following - level) * d
        x = trial
        yield Step(i, total, float(sigma), x, x0)


def dpm_2(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    """The slope is taken at the geometric middle of the step."""
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        d = (x - x0) / sigma
        if following > 0:
            middle = (sigma * following).sqrt()
            trial = x + (middle - sigma) * d
            d = (trial - denoise(trial, middle)) / middle
        x = x + (following - sigma) * d
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def dpm_2_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """DPM2 down to sigma_down, then fresh noise."""
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        d = (x - x0) / sigma
        down, up = ancestral(sigma, following, eta)
        if down > 0:
            middle = (sigma * down).sqrt()
            trial = x + (middle - sigma) * d
            d = (trial - denoise(trial, middle)) / middle
        x = x + (down - sigma) * d
        if up > 0:
            x = x + up * s_noise * noise(sigma, following)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def dpmpp_2s_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """DPM-Solver++(2S) down to sigma_down through the middle in ln sigma, then fresh noise."""
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        down, up = ancestral(sigma, following, eta)
        if down == 0:
            x = x0
        else:
            h = sigma.log() - down.log()
            middle = sigma * (-h / 2).exp()
            trial = middle / sigma * x - (-h / 2).expm1() * x0
            x = down / sigma * x - (-h).expm1() * denoise(trial, middle)
        if up > 0:
            x = x + up * s_noise * noise(sigma, following)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


SAMPLERS.add("Heun", heun, "k_heun")
SAMPLERS.add("DPM2", dpm_2, "dpm_2", "k_dpm_2")
SAMPLERS.add("DPM2 a", dpm_2_ancestral, "dpm_2_ancestral", "k_dpm_2_a")
SAMPLERS.add("DPM++ 2S a", dpmpp_2s_ancestral, "dpmpp_2s_ancestral", "k_dpmpp_2s_a")
