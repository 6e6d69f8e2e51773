"""Heun++ (Carzit 2023): the mean slope of up to three levels ahead, weighted by their noise."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import ChurnOptions, churned, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["heunpp2"]


def heunpp2(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: ChurnOptions) -> Iterator[Step]:
    """Three evaluations a step, two in the last step but one, one in the last.

    A slope at level s weighs s / (n sigma_0) of n, the one at hand the rest, so that low levels are steps of Euler.
    """
    total = len(sigmas) - 1
    for i, sigma, sigma_next in levels(sigmas):
        x, sigma_hat = churned(x, sigma, noise, total, options)
        x0 = denoise(x, sigma_hat)
        d = (x - x0) / sigma_hat
        mean, ahead, x_2, slope, level = d, min(2, total - 1 - i), x, d, sigma_hat
        for k in range(ahead):
            to = sigmas[i + 1 + k]
            x_2 = x_2 + (to - level) * slope
            slope, level = (x_2 - denoise(x_2, to)) / to, to
            mean = mean + to / ((ahead + 1) * sigmas[0]) * (slope - d)
        x = x + (sigma_next - sigma_hat) * mean
        yield Step(i, total, float(sigma), x, x0)


add_sampler(SamplerEntry("Heun++ 2", heunpp2, ("heunpp2",), ChurnOptions, diffusers="HeunDiscreteScheduler"))
