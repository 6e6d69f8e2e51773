"""What many samplers share: the walk over the levels, fresh noise after a step or before it, and how a run ends."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.errors import InputError
from darkroom.types import NoiseSource

__all__ = ["AncestralOptions", "ChurnOptions", "EndOptions", "ancestral", "churned", "expect", "levels", "with_end"]


def expect(low: float = 0.0, high: float = math.inf, **values: float) -> None:
    """`InputError` for the first of `values` that is not finite or not within `low` … `high`."""
    for name, value in values.items():
        if not (low <= value <= high and math.isfinite(value)):
            reach = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            raise InputError(f"{name} is {value}, expected is {reach}")


def levels(sigmas: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(i, sigma, sigma_next) of every step."""
    for i in range(len(sigmas) - 1):
        yield i, sigmas[i], sigmas[i + 1]


@dataclass(frozen=True)
class AncestralOptions:
    eta: float = 1.0  # share of the noise that is fresh; 0 is the plain solver
    s_noise: float = 1.0  # spread of the fresh noise

    def __post_init__(self) -> None:
        expect(eta=self.eta, s_noise=self.s_noise)


def ancestral(sigma: Tensor, sigma_next: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    """(sigma_down, sigma_up): step down to the first, then add noise of the second (papers C.4)."""
    up = eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).clamp(min=0).sqrt()
    up = torch.minimum(sigma_next, up)
    return (sigma_next**2 - up**2).clamp(min=0).sqrt(), up


@dataclass(frozen=True)
class ChurnOptions:
    s_churn: float = 0.0  # noise added before the steps, in all; 0 is the plain ODE
    s_tmin: float = 0.0  # from this level …
    s_tmax: float = math.inf  # … to this
    s_noise: float = 1.0  # spread of the added noise

    def __post_init__(self) -> None:
        expect(s_churn=self.s_churn, s_tmin=self.s_tmin, s_noise=self.s_noise)
        if not self.s_tmax >= 0:
            raise InputError(f"s_tmax is {self.s_tmax}, expected is 0 or more")


def churned(x: Tensor, sigma: Tensor, noise: NoiseSource, total: int, options: ChurnOptions) -> tuple[Tensor, Tensor]:
    """x with noise added up to sigma_hat = sigma (1 + gamma), and that level (Karras et al. 2022, algorithm 2).

    gamma = min(s_churn / total, √2 − 1) between the levels of the options. As in k-diffusion, noise is drawn at all of
    the `total` steps, so that the levels decide where it is put, not what it is.
    """
    if options.s_churn == 0:
        return x, sigma
    gamma = min(options.s_churn / total, math.sqrt(2) - 1) if options.s_tmin <= sigma <= options.s_tmax else 0.0
    sigma_hat = sigma * (1 + gamma)
    fresh = noise(sigma_hat, sigma)
    return x + (sigma_hat**2 - sigma**2).sqrt() * options.s_noise * fresh, sigma_hat


@dataclass(frozen=True)
class EndOptions:
    end: float = 0.0  # the level that a whole run ends at; the reference's own is its first, about 0.03

    def __post_init__(self) -> None:
        expect(end=self.end)


def with_end(sigmas: Tensor, end: float) -> tuple[Tensor, Tensor]:
    """(`sigmas` whose last zero is the level `end`, what the latent at that level is multiplied by).

    Stable Diffusion's own DDIM and PLMS end at the first level of the process, with a small residue of noise, and hand
    the VP latent z = x / sqrt(1 + end²) to the decoder (papers C.3). A part that ends before zero ends as it is.
    """
    if end == 0 or sigmas[-1] > 0:
        return sigmas, sigmas.new_ones(())
    last = sigmas.new_tensor([end])
    if end >= sigmas[-2]:
        raise InputError(
            f"the last level is {end}, expected is one below the level of the last step, {float(sigmas[-2])}"
        )
    return torch.cat([sigmas[:-1], last]), (1 + last[0] ** 2).rsqrt()
