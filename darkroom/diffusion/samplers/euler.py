"""Euler's method on the probability-flow ODE, plain and ancestral (k-diffusion; Karras et al. 2022, algorithm 2)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import AncestralOptions, ChurnOptions, ancestral, churned, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["euler", "euler_ancestral"]


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: ChurnOptions) -> Iterator[Step]:
    """x' = x + (sigma' − sigma) (x − D) / sigma."""
    total = len(sigmas) - 1
    for i, sigma, sigma_next in levels(sigmas):
        x, sigma_hat = churned(x, sigma, noise, total, options)
        x0 = denoise(x, sigma_hat)
        x = x + (sigma_next - sigma_hat) * (x - x0) / sigma_hat
        yield Step(i, total, float(sigma), x, x0)


def euler_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions
) -> Iterator[Step]:
    """Euler down to sigma_down, then fresh noise up to sigma'. `eta` 0 is plain Euler."""
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        down, up = ancestral(sigma, sigma_next, options.eta)
        x = x + (down - sigma) * (x - x0) / sigma
        if up > 0:
            x = x + up * options.s_noise * noise(sigma, sigma_next)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(
    SamplerEntry(
        "Euler",
        euler,
        ("euler",),
        ChurnOptions,
        starts_at_sigma=("a1111", "diffusers"),
        diffusers="EulerDiscreteScheduler",
    )
)
add_sampler(
    SamplerEntry(
        "Euler a",
        euler_ancestral,
        ("euler_ancestral",),
        AncestralOptions,
        starts_at_sigma=("a1111", "diffusers"),
        diffusers="EulerAncestralDiscreteScheduler",
    )
)
