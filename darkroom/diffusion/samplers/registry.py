"""The table of samplers, and what many of them share."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from darkroom.errors import InputError
from darkroom.registry import Registry
from darkroom.types import NoiseSource, Sampler

__all__ = ["BROWNIAN", "SAMPLERS", "ancestral", "churned", "levels", "with_end"]

SAMPLERS: Registry[Sampler] = Registry("sampler")  # by A1111 label; ComfyUI and k-diffusion ids are aliases

# These want the noise of a Brownian path (`BrownianNoise`) and get the same picture, refined, from more steps.
BROWNIAN = frozenset({"DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"})


def levels(sigmas: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(i, sigma_i, sigma_{i+1}) of every step."""
    for i in range(len(sigmas) - 1):
        yield i, sigmas[i], sigmas[i + 1]


def with_end(sigmas: Tensor, end: float) -> tuple[Tensor, Tensor]:
    """(`sigmas` whose last zero is the level `end`, what the latent at that level is multiplied by).

    Stable Diffusion's own DDIM and PLMS end at the first level of the process, with a small residue of noise, and hand
    the VP latent z = x / sqrt(1 + end²) to the decoder (papers C.3). A stretch that ends before zero ends as it is.
    """
    if end == 0 or sigmas[-1] > 0:
        return sigmas, sigmas.new_ones(())
    last = sigmas.new_tensor([end])
    if end >= sigmas[-2]:
        raise InputError(
            f"the last level is {end}, wanted is one below the level of the last step, {float(sigmas[-2])}"
        )
    return torch.cat([sigmas[:-1], last]), (1 + last[0] ** 2).rsqrt()


def ancestral(sigma: Tensor, following: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    """(sigma_down, sigma_up): step down to the first, then add noise of the second (papers C.4)."""
    up = eta * (following**2 * (sigma**2 - following**2) / sigma**2).clamp(min=0).sqrt()
    up = torch.minimum(following, up)
    return (following**2 - up**2).clamp(min=0).sqrt(), up


def churned(x: Tensor, sigma: Tensor, churn: float, s_noise: float, noise: NoiseSource) -> tuple[Tensor, Tensor]:
    """x with noise added up to sigma (1 + gamma), gamma = min(churn, √2 − 1), and that level (Karras et al. 2022)."""
    gamma = min(churn, math.sqrt(2) - 1)
    if gamma <= 0:
        return x, sigma
    level = sigma * (1 + gamma)
    return x + (level**2 - sigma**2).sqrt() * s_noise * noise(level, sigma), level
