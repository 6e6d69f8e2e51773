"""DDIM (Song et al. 2021) on the variance-exploding contract."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from darkroom.diffusion.samplers.registry import SAMPLERS, levels, with_end
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["ddim"]


def ddim(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, *, eta: float = 0.0, end: float = 0.0
) -> Iterator[Step]:
    """z_s = sqrt(a_s) z0 + sqrt(1 − a_s − σ̃²) eps + σ̃ noise (papers C.4), divided by sqrt(a_s).

    `eta` 0 is deterministic, 1 is strided DDPM. a = 1 / (1 + sigma²); the last step returns z0, or what
    `with_end` says.
    """
    sigmas, shrink = with_end(sigmas, end)
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        eps = (x - x0) / sigma
        a, a_next = 1 / (1 + sigma**2), 1 / (1 + following**2)
        spread = eta * ((1 - a_next) / (1 - a)).sqrt() * (1 - a / a_next).clamp(min=0).sqrt()  # σ̃
        x = x0 + ((1 - a_next - spread**2).clamp(min=0) / a_next).sqrt() * eps
        if spread > 0:
            x = x + spread / a_next.sqrt() * noise(sigma, following)
        last = i == len(sigmas) - 2
        yield Step(i, len(sigmas) - 1, float(sigma), x * shrink if last else x, x0)


SAMPLERS.add("DDIM", ddim)
