"""DPM-Solver++ on the reverse SDE (Lu et al. 2022; k-diffusion). With eta 0 each is an ODE solver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import AncestralOptions, ancestral, expect, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["DpmSde2mOptions", "DpmSdeOptions", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde"]


@dataclass(frozen=True)
class DpmSdeOptions(AncestralOptions):
    r: float = 0.5  # where between the ends, in ln sigma, the second estimate is made

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(0.01, 1, r=self.r)


def dpmpp_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: DpmSdeOptions
) -> Iterator[Step]:
    """Two estimates a step, noise in both stages."""
    eta, s_noise, r = options.eta, options.s_noise, options.r
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        if sigma_next == 0:
            x = x0
        else:
            h = sigma.log() - sigma_next.log()
            sigma_mid = sigma * (-r * h).exp()
            down, up = ancestral(sigma, sigma_mid, eta)
            x_2 = down / sigma * x - (down / sigma).log().expm1() * x0 + up * s_noise * noise(sigma, sigma_mid)
            mean = (1 - 1 / (2 * r)) * x0 + 1 / (2 * r) * denoise(x_2, sigma_mid)
            down, up = ancestral(sigma, sigma_next, eta)
            x = down / sigma * x - (down / sigma).log().expm1() * mean + up * s_noise * noise(sigma, sigma_next)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


@dataclass(frozen=True)
class DpmSde2mOptions(AncestralOptions):
    solver: Literal["midpoint", "heun"] = "midpoint"  # how the slope of the estimates is weighted


def dpmpp_2m_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: DpmSde2mOptions
) -> Iterator[Step]:
    """One estimate a step, extrapolated from the last two."""
    old_x0: Tensor | None = None
    old_h: Tensor | None = None
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        if sigma_next == 0:
            x = x0
        else:
            h = sigma.log() - sigma_next.log()
            h_eta = options.eta * h
            x = sigma_next / sigma * (-h_eta).exp() * x - (-h - h_eta).expm1() * x0
            if old_x0 is not None and old_h is not None:
                slope = (x0 - old_x0) * h / old_h
                if options.solver == "heun":
                    x = x + (-(-h - h_eta).expm1() / (-h - h_eta) + 1) * slope
                else:
                    x = x - 0.5 * (-h - h_eta).expm1() * slope
            if options.eta > 0:
                spread = sigma_next * (-(-2 * h_eta).expm1()).sqrt() * options.s_noise
                x = x + spread * noise(sigma, sigma_next)
            old_x0, old_h = x0, h
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def dpmpp_2m_sde_heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions
) -> Iterator[Step]:
    return dpmpp_2m_sde(denoise, x, sigmas, noise, DpmSde2mOptions(options.eta, options.s_noise, "heun"))


def dpmpp_3m_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions
) -> Iterator[Step]:
    """One estimate a step, extrapolated from the last three."""
    estimates: list[Tensor] = []  # the newest first
    steps: list[Tensor] = []
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        if sigma_next == 0:
            x = x0
        else:
            h = sigma.log() - sigma_next.log()
            h_eta = h * (options.eta + 1)
            x = (-h_eta).exp() * x - (-h_eta).expm1() * x0
            phi_2 = (-h_eta).expm1() / h_eta + 1
            if len(estimates) == 2:
                r0, r1 = steps[0] / h, steps[1] / h
                d10, d11 = (x0 - estimates[0]) / r0, (estimates[0] - estimates[1]) / r1
                d1 = d10 + (d10 - d11) * r0 / (r0 + r1)
                x = x + phi_2 * d1 - (phi_2 / h_eta - 0.5) * (d10 - d11) / (r0 + r1)
            elif estimates:
                x = x + phi_2 * (x0 - estimates[0]) / (steps[0] / h)
            if options.eta > 0:
                spread = sigma_next * (-(-2 * h * options.eta).expm1()).sqrt() * options.s_noise
                x = x + spread * noise(sigma, sigma_next)
            estimates, steps = [x0, *estimates[:1]], [h, *steps[:1]]
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(
    SamplerEntry(
        "DPM++ SDE",
        dpmpp_sde,
        ("dpmpp_sde", "DPMSolverSDEScheduler", "DPM SDE"),
        DpmSdeOptions,
        noise="brownian",
        schedule="karras",
        starts_at_sigma=("a1111", "diffusers"),
        diffusers="DPMSolverSDEScheduler",
    )
)
add_sampler(
    SamplerEntry(
        "DPM++ 2M SDE",
        dpmpp_2m_sde,
        ("dpmpp_2m_sde",),
        DpmSde2mOptions,
        noise="brownian",
        schedule="exponential",
        diffusers="DPMSolverMultistepScheduler",
        diffusers_leaves_out=True,
    )
)
add_sampler(
    SamplerEntry(
        "DPM++ 2M SDE Heun",
        dpmpp_2m_sde_heun,
        ("dpmpp_2m_sde_heun",),
        AncestralOptions,
        noise="brownian",
        schedule="exponential",
        diffusers="DPMSolverMultistepScheduler",
        diffusers_leaves_out=True,
    )
)
add_sampler(
    SamplerEntry(
        "DPM++ 3M SDE",
        dpmpp_3m_sde,
        ("dpmpp_3m_sde",),
        AncestralOptions,
        noise="brownian",
        schedule="exponential",
        diffusers="DPMSolverMultistepScheduler",
        diffusers_leaves_out=True,
    )
)
