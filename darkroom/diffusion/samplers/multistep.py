"""Linear multistep methods on the slope d = (x − D) / sigma, which is the predicted noise: LMS, PLMS, DEIS."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import EndOptions, expect, levels, with_end
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["DeisOptions", "LmsOptions", "deis", "lms", "plms"]


@dataclass(frozen=True)
class LmsOptions:
    order: int = 4  # how many slopes are used

    def __post_init__(self) -> None:
        expect(1, 4, order=self.order)


def lms(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: LmsOptions) -> Iterator[Step]:
    """Adams–Bashforth on uneven steps: the polynomial in sigma through the last slopes, integrated exactly."""
    slopes: list[Tensor] = []  # the newest first
    known = [float(s) for s in sigmas.double()]
    for i, sigma, _ in levels(sigmas):
        x0 = denoise(x, sigma)
        slopes = [(x - x0) / sigma, *slopes[: options.order - 1]]
        nodes = known[i::-1][: len(slopes)]
        weights = [_integral(nodes, j, known[i], known[i + 1]) for j in range(len(slopes))]
        x = x + sum(w * d for w, d in zip(weights, slopes))
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def _integral(nodes: Sequence[float], j: int, start: float, end: float) -> float:
    """∫ from `start` to `end` of the Lagrange polynomial that is 1 at nodes[j] and 0 at the others."""
    others = [n for k, n in enumerate(nodes) if k != j]
    scale = math.prod(nodes[j] - n for n in others)
    primitive = np.polynomial.Polynomial.fromroots(others).integ() if others else np.polynomial.Polynomial([0.0, 1.0])
    return float(primitive(end) - primitive(start)) / scale


def plms(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: EndOptions) -> Iterator[Step]:
    """Pseudo linear multistep (Liu et al. 2022): Adams–Bashforth weights of even steps; n steps, n + 1 evaluations.

    It ends at zero, or as `with_end` says.
    """
    sigmas, shrink = with_end(sigmas, options.end)
    weights = ((3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
    slopes: list[Tensor] = []
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        slopes = [(x - x0) / sigma, *slopes[:3]]
        if len(slopes) > 1:
            d = sum((w * s for w, s in zip(weights[len(slopes) - 2], slopes)), start=x.new_zeros(()))
        elif sigma_next > 0:
            x_2 = x + (sigma_next - sigma) * slopes[0]
            d = (slopes[0] + (x_2 - denoise(x_2, sigma_next)) / sigma_next) / 2
        else:
            d = slopes[0]
        x = x + (sigma_next - sigma) * d
        last = i == len(sigmas) - 2
        yield Step(i, len(sigmas) - 1, float(sigma), x * shrink if last else x, x0)


@dataclass(frozen=True)
class DeisOptions:
    order: int = 3  # how many slopes are used

    def __post_init__(self) -> None:
        expect(1, 4, order=self.order)


def deis(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: DeisOptions) -> Iterator[Step]:
    """Diffusion exponential integrator (Zhang & Chen 2023): the polynomial through the slopes is one in ln sigma."""
    slopes: list[Tensor] = []
    known = [float(s) for s in sigmas.double()]
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        slopes = [(x - x0) / sigma, *slopes[: options.order - 1]]
        used = slopes if sigma_next > 0 else slopes[:1]  # ln sigma has no end to integrate to
        nodes = [math.log(s) for s in known[i::-1][: len(used)]]
        weights = [_log_integral(nodes, j, known[i], known[i + 1]) for j in range(len(used))]
        x = x + sum(w * d for w, d in zip(weights, used))
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def _log_integral(nodes: Sequence[float], j: int, start: float, end: float) -> float:
    """∫ dσ of the Lagrange polynomial in u = ln σ: ∫ P(u) e^u du = e^u (P − P' + P'' − …)."""
    others = [n for k, n in enumerate(nodes) if k != j]
    if not others:
        return end - start
    scale = math.prod(nodes[j] - n for n in others)
    # Around the first node, so that the powers stay small.
    term = np.polynomial.Polynomial.fromroots([n - nodes[0] for n in others])
    total, sign = np.polynomial.Polynomial([0.0]), 1.0
    for _ in range(len(others) + 1):
        total, term, sign = total + sign * term, term.deriv(), -sign
    at_end, at_start = total(math.log(end) - nodes[0]), total(math.log(start) - nodes[0])
    return float(end * at_end - start * at_start) / scale


add_sampler(
    SamplerEntry(
        "LMS",
        lms,
        ("k_lms",),
        LmsOptions,
        schedule="karras",
        starts_at_sigma=("a1111", "diffusers"),
        diffusers="LMSDiscreteScheduler",
    )
)
add_sampler(
    SamplerEntry("PLMS", plms, ("pndm",), EndOptions, schedule="leading", starts_at_sigma=(), diffusers="PNDMScheduler")
)
add_sampler(
    SamplerEntry(
        "DEIS",
        deis,
        ("deis_2m", "deis_3m"),
        DeisOptions,
        starts_at_sigma=(),
        diffusers="DEISMultistepScheduler",
    )
)
