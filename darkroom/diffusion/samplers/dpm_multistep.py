"""DPM-Solver++ of two steps (Lu et al. 2022) in k-diffusion's form."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["dpmpp_2m"]


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    """x' = (σ'/σ) x − expm1(−h) D̃ with h = ln σ − ln σ' and D̃ extrapolated from the last two estimates."""
    old_x0: Tensor | None = None
    old_h = None
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        if sigma_next == 0:
            x = x0  # first order at the end
        else:
            h = sigma.log() - sigma_next.log()
            mean = x0
            if old_x0 is not None and old_h is not None:
                r = old_h / h
                mean = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * old_x0
            x = sigma_next / sigma * x - (-h).expm1() * mean
            old_x0, old_h = x0, h
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(
    SamplerEntry(
        "DPM++ 2M",
        dpmpp_2m,
        ("dpmpp_2m", "k_dpmpp_2m"),
        schedule="karras",
        diffusers="DPMSolverMultistepScheduler",
        diffusers_leaves_out=True,
    )
)
