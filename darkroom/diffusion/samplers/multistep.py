"""Linear multistep methods on the slope d = (x − D) / sigma, which is the predicted noise: LMS, PLMS, iPNDM, DEIS."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from darkroom.diffusion.samplers.lagrange import lagrange_weights
from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import EndOptions, expect, levels, with_end
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["DeisOptions", "MultistepOptions", "deis", "ipndm", "ipndm_v", "lms", "plms"]

# Adams–Bashforth for even steps, the newest slope first.
ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def _weighed(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    return sum((w * d for w, d in zip(weights[1:], slopes[1:])), start=weights[0] * slopes[0])


@dataclass(frozen=True)
class MultistepOptions:
    order: int = 4  # how many slopes are used

    def __post_init__(self) -> None:
        expect(1, 4, order=self.order)


def lms(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: MultistepOptions) -> Iterator[Step]:
    """Adams–Bashforth on uneven steps: the polynomial in sigma through the last slopes, integrated exactly."""
    slopes: list[Tensor] = []  # the newest first
    known = sigmas.double().tolist()
    for i, sigma, _ in levels(sigmas):
        x0 = denoise(x, sigma)
        slopes = [(x - x0) / sigma, *slopes[: options.order - 1]]
        x = x + _weighed(lagrange_weights(known[i::-1][: len(slopes)], known[i], known[i + 1]), slopes)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def plms(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: EndOptions) -> Iterator[Step]:
    """Pseudo linear multistep (Liu et al. 2022): Adams–Bashforth weights of even steps; n steps, n + 1 evaluations.

    It ends at zero, or as `with_end` says.
    """
    sigmas, shrink = with_end(sigmas, options.end)
    slopes: list[Tensor] = []
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        slopes = [(x - x0) / sigma, *slopes[:3]]
        d = _weighed(ADAMS[len(slopes) - 1], slopes)
        if i == 0 and sigma_next > 0:
            x_2 = x + (sigma_next - sigma) * d
            d = (d + (x_2 - denoise(x_2, sigma_next)) / sigma_next) / 2
        x = x + (sigma_next - sigma) * d
        last = i == len(sigmas) - 2
        yield Step(i, len(sigmas) - 1, float(sigma), x * shrink if last else x, x0)


def ipndm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: MultistepOptions) -> Iterator[Step]:
    """PLMS that begins with a step of Euler and ends with the last estimate (Zhang & Chen 2023)."""
    slopes: list[Tensor] = []
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        slopes = [(x - x0) / sigma, *slopes[: options.order - 1]]
        x = x0 if sigma_next == 0 else x + (sigma_next - sigma) * _weighed(ADAMS[len(slopes) - 1], slopes)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def ipndm_v(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: MultistepOptions
) -> Iterator[Step]:
    """iPNDM for uneven steps."""
    slopes: list[Tensor] = []
    known = sigmas.double().tolist()
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        slopes = [(x - x0) / sigma, *slopes[: options.order - 1]]
        steps = [known[k + 1] - known[k] for k in range(i, i - len(slopes), -1)]  # this one, the one before …
        x = x0 if sigma_next == 0 else x + steps[0] * _weighed(_uneven(steps), slopes)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def _uneven(h: Sequence[float]) -> list[float]:
    """Weights of the slopes over the steps h, the newest first.

    Those of Zhou et al. (2024, "Fast ODE-based sampling"), which agree with the exact ones (LMS) for even steps: their
    third-order share lacks a bracket and the last slope has the ratio of the steps before, both as in their code.
    """
    if len(h) == 1:
        return [1.0]
    first, second = 1 + h[0] / h[1] / 2, -h[0] / h[1] / 2
    if len(h) == 2:
        return [first, second]
    two, ratio = h[0] + h[1], h[1] / h[2]
    b = (1 - h[0] / (3 * two) * (h[0] * two) / (h[1] * (h[1] + h[2]))) / 2
    if len(h) == 3:
        return [first + b, second - (1 + ratio) * b, ratio * b]
    three, p = two + h[2], h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
    c = (1 - h[0] / (3 * two)) / 2 + (1 - h[0] / (2 * two)) * h[0] / (6 * three)
    c = c * (h[0] * two * three) / (h[1] * (h[1] + h[2]) * (h[1] + h[2] + h[3]))
    return [
        first + b + c,
        second - (1 + ratio) * b - (1 + ratio + p) * c,
        ratio * b + (ratio + p * (1 + h[2] / h[3])) * c,
        -p * ratio * c,
    ]


@dataclass(frozen=True)
class DeisOptions:
    order: int = 3  # how many slopes are used

    def __post_init__(self) -> None:
        expect(1, 4, order=self.order)


def deis(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: DeisOptions) -> Iterator[Step]:
    """Diffusion exponential integrator (Zhang & Chen 2023): the polynomial through the slopes is one in ln sigma."""
    slopes: list[Tensor] = []
    known = sigmas.double().tolist()
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        slopes = [(x - x0) / sigma, *slopes[: options.order - 1]]
        if sigma_next > 0:
            nodes = [math.log(s) for s in known[i::-1][: len(slopes)]]
            # dσ = σ du with u = ln σ
            weights = lagrange_weights(nodes, math.log(known[i]), math.log(known[i + 1]), rate=1.0)
            x = x + sigma_next * _weighed(weights, slopes)
        else:
            x = x0  # ln sigma has no end to integrate to
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(
    SamplerEntry(
        "LMS",
        lms,
        ("lms", "LMSD"),
        MultistepOptions,
        schedule="karras",
        starts_at_sigma=("a1111", "diffusers"),
        diffusers="LMSDiscreteScheduler",
    )
)
add_sampler(
    SamplerEntry("PLMS", plms, ("pndm",), EndOptions, schedule="leading", starts_at_sigma=(), diffusers="PNDMScheduler")
)
add_sampler(SamplerEntry("iPNDM", ipndm, ("ipndm",), MultistepOptions, diffusers="IPNDMScheduler"))
add_sampler(SamplerEntry("iPNDM v", ipndm_v, ("ipndm_v",), MultistepOptions, diffusers="IPNDMScheduler"))
add_sampler(
    SamplerEntry(
        "DEIS",
        deis,
        ("deis", "deis_2m", "deis_3m", "DEISMultistepScheduler"),
        DeisOptions,
        starts_at_sigma=(),
        diffusers="DEISMultistepScheduler",
        diffusers_leaves_out=True,
    )
)
