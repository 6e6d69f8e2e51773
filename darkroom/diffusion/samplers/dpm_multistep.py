"""DPM-Solver++ of two steps (Lu et al. 2022) in k-diffusion's form."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from darkroom.diffusion.samplers.registry import SAMPLERS, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["dpmpp_2m"]


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    """x' = (σ'/σ) x − expm1(−h) D̃ with h = ln σ − ln σ' and D̃ extrapolated from the last two estimates."""
    former: Tensor | None = None
    h_former = None
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        if following == 0:
            x = x0  # first order at the end
        else:
            h = sigma.log() - following.log()
            mean = x0
            if former is not None and h_former is not None:
                r = h_former / h
                mean = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * former
            x = following / sigma * x - (-h).expm1() * mean
            former, h_former = x0, h
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


SAMPLERS.add("DPM++ 2M", dpmpp_2m, "dpmpp_2m", "k_dpmpp_2m")
