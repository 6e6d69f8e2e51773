"""Solvers with two evaluations a step: Heun and the DPM-Solver-2 of k-diffusion, plain and ancestral."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import AncestralOptions, ChurnOptions, ancestral, churned, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "heun"]


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: ChurnOptions) -> Iterator[Step]:
    """Euler's step, then the mean of the slopes at both ends (Karras et al. 2022, algorithm 2)."""
    total = len(sigmas) - 1
    for i, sigma, sigma_next in levels(sigmas):
        x, sigma_hat = churned(x, sigma, noise, total, options)
        x0 = denoise(x, sigma_hat)
        d = (x - x0) / sigma_hat
        if sigma_next > 0:
            x_2 = x + (sigma_next - sigma_hat) * d
            d = (d + (x_2 - denoise(x_2, sigma_next)) / sigma_next) / 2
        x = x + (sigma_next - sigma_hat) * d
        yield Step(i, total, float(sigma), x, x0)


def dpm_2(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: ChurnOptions) -> Iterator[Step]:
    """The slope is taken at the geometric middle of the step."""
    total = len(sigmas) - 1
    for i, sigma, sigma_next in levels(sigmas):
        x, sigma_hat = churned(x, sigma, noise, total, options)
        x0 = denoise(x, sigma_hat)
        d = (x - x0) / sigma_hat
        if sigma_next > 0:
            sigma_mid = (sigma_hat * sigma_next).sqrt()
            x_2 = x + (sigma_mid - sigma_hat) * d
            d = (x_2 - denoise(x_2, sigma_mid)) / sigma_mid
        x = x + (sigma_next - sigma_hat) * d
        yield Step(i, total, float(sigma), x, x0)


def dpm_2_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions
) -> Iterator[Step]:
    """DPM2 down to sigma_down, then fresh noise."""
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        d = (x - x0) / sigma
        down, up = ancestral(sigma, sigma_next, options.eta)
        if down > 0:
            sigma_mid = (sigma * down).sqrt()
            x_2 = x + (sigma_mid - sigma) * d
            d = (x_2 - denoise(x_2, sigma_mid)) / sigma_mid
        x = x + (down - sigma) * d
        if up > 0:
            x = x + up * options.s_noise * noise(sigma, sigma_next)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


@dataclass(frozen=True)
class PlainOptions(AncestralOptions):
    eta: float = 0.0


def dpmpp_2s_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions
) -> Iterator[Step]:
    """DPM-Solver++(2S) down to sigma_down through the middle in ln sigma, then fresh noise."""
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        down, up = ancestral(sigma, sigma_next, options.eta)
        if down == 0:
            x = x0
        else:
            h = sigma.log() - down.log()
            sigma_mid = sigma * (-h / 2).exp()
            x_2 = sigma_mid / sigma * x - (-h / 2).expm1() * x0
            x = down / sigma * x - (-h).expm1() * denoise(x_2, sigma_mid)
        if up > 0:
            x = x + up * options.s_noise * noise(sigma, sigma_next)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(
    SamplerEntry(
        "Heun",
        heun,
        ("heun",),
        ChurnOptions,
        starts_at_sigma=("a1111", "diffusers"),
        diffusers="HeunDiscreteScheduler",
    )
)
add_sampler(
    SamplerEntry(
        "DPM2",
        dpm_2,
        ("dpm_2",),
        ChurnOptions,
        schedule="karras",
        starts_at_sigma=("a1111", "diffusers"),
        discards_penultimate=("a1111", "comfy"),
        diffusers="KDPM2DiscreteScheduler",
    )
)
add_sampler(
    SamplerEntry(
        "DPM2 a",
        dpm_2_ancestral,
        ("dpm_2_ancestral",),
        AncestralOptions,
        schedule="karras",
        starts_at_sigma=("a1111", "diffusers"),
        discards_penultimate=("a1111", "comfy"),
        diffusers="KDPM2AncestralDiscreteScheduler",
    )
)
add_sampler(
    SamplerEntry(
        "DPM++ 2S a",
        dpmpp_2s_ancestral,
        ("dpmpp_2s_ancestral",),
        AncestralOptions,
        schedule="karras",
        diffusers="DPMSolverSinglestepScheduler",
        diffusers_leaves_out=True,
    )
)
add_sampler(
    SamplerEntry(
        "DPM++ 2S",
        dpmpp_2s_ancestral,
        ("dpmpp_2s", "DPMSolverSinglestepScheduler"),  # there a stage is a step: half as many steps are the same work
        PlainOptions,
        schedule="karras",
        diffusers="DPMSolverSinglestepScheduler",
        diffusers_leaves_out=True,
    )
)
