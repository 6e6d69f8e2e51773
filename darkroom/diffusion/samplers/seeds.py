"""SEEDS (Gonzalez et al. 2023): single steps of an exponential integrator on the SDE; one is Heun's in its form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import AncestralOptions, expect, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = [
    "ExpHeunOptions",
    "ExpHeunSdeOptions",
    "Seeds2Options",
    "Seeds3Options",
    "exp_heun_2_x0",
    "seeds_2",
    "seeds_3",
]


class _Walk:
    """From x at `sigma` to levels below it, the estimates being known: λ = −ln σ, h = λ' − λ.

    The noise met on the way is kept, so that every level lies on one path.
    """

    def __init__(self, x: Tensor, sigma: Tensor, noise: NoiseSource, options: AncestralOptions) -> None:
        self.x, self.sigma, self.noise, self.options = x, sigma, noise, options
        self.level, self.path = sigma, torch.zeros_like(x)  # where the path is, in units of that level

    def decay(self, level: Tensor) -> Tensor:
        """−h (1 + eta)"""
        return (level / self.sigma).log() * (1 + self.options.eta)

    def to(self, level: Tensor, mean: Tensor) -> Tensor:
        """x at `level`, given ∫ of the estimates on the way."""
        eta = self.options.eta
        h = self.sigma.log() - level.log()
        x = level / self.sigma * (-eta * h).exp() * self.x + mean
        if eta > 0 and self.options.s_noise > 0:
            part = eta * (level.log() - self.level.log())  # below zero
            fresh = (-(2 * part).expm1()).sqrt() * self.noise(self.level, level)
            self.path, self.level = part.exp() * self.path + fresh, level
            x = x + level * self.options.s_noise * self.path
        return x


@dataclass(frozen=True)
class Seeds2Options(AncestralOptions):
    r: float = 0.5  # where between the ends, in ln sigma, the second estimate is made
    solver: Literal["phi_1", "phi_2"] = "phi_1"  # how the two estimates are weighted

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(0.01, 1, r=self.r)


def seeds_2(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: Seeds2Options) -> Iterator[Step]:
    """Two estimates a step."""
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        if sigma_next == 0:
            x = x0
        else:
            walk = _Walk(x, sigma, noise, options)
            sigma_mid = sigma * (sigma_next / sigma) ** options.r
            x_2 = walk.to(sigma_mid, -walk.decay(sigma_mid).expm1() * x0)
            x0_2, z = denoise(x_2, sigma_mid), walk.decay(sigma_next)
            share = 0.5 * z.expm1() if options.solver == "phi_1" else z.expm1() / z - 1
            x = walk.to(sigma_next, -z.expm1() * x0 - share / options.r * (x0_2 - x0))
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


@dataclass(frozen=True)
class ExpHeunOptions:
    solver: Literal["phi_1", "phi_2"] = "phi_2"


def exp_heun_2_x0(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: ExpHeunOptions
) -> Iterator[Step]:
    """The exponential form of Heun's method, in data prediction."""
    return seeds_2(denoise, x, sigmas, noise, Seeds2Options(eta=0.0, r=1.0, solver=options.solver))


@dataclass(frozen=True)
class ExpHeunSdeOptions(AncestralOptions):
    solver: Literal["phi_1", "phi_2"] = "phi_2"


def exp_heun_2_x0_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: ExpHeunSdeOptions
) -> Iterator[Step]:
    return seeds_2(denoise, x, sigmas, noise, Seeds2Options(options.eta, options.s_noise, 1.0, options.solver))


@dataclass(frozen=True)
class Seeds3Options(AncestralOptions):
    r_1: float = 1 / 3  # where the second and the third estimate are made
    r_2: float = 2 / 3

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(0.01, 0.98, r_1=self.r_1)
        expect(self.r_1 + 0.01, 0.99, r_2=self.r_2)


def seeds_3(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: Seeds3Options) -> Iterator[Step]:
    """Three estimates a step."""
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        if sigma_next == 0:
            x = x0
        else:
            walk = _Walk(x, sigma, noise, options)
            first, second = (sigma * (sigma_next / sigma) ** r for r in (options.r_1, options.r_2))
            x_2 = walk.to(first, -walk.decay(first).expm1() * x0)
            bend, z = denoise(x_2, first) - x0, walk.decay(second)
            x_3 = walk.to(second, -z.expm1() * x0 - (z.expm1() / z - 1) * options.r_2 / options.r_1 * bend)
            bend, z = denoise(x_3, second) - x0, walk.decay(sigma_next)
            x = walk.to(sigma_next, -z.expm1() * x0 - (z.expm1() / z - 1) / options.r_2 * bend)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(SamplerEntry("SEEDS 2", seeds_2, ("seeds_2",), Seeds2Options))
add_sampler(SamplerEntry("SEEDS 3", seeds_3, ("seeds_3",), Seeds3Options))
add_sampler(SamplerEntry("Exp Heun 2 x0", exp_heun_2_x0, ("exp_heun_2_x0",), ExpHeunOptions))
add_sampler(SamplerEntry("Exp Heun 2 x0 SDE", exp_heun_2_x0_sde, ("exp_heun_2_x0_sde",), ExpHeunSdeOptions))
