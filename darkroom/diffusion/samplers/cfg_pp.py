"""CFG++ (Chung et al. 2024): towards the guided estimate, but away from it along the unguided noise.

These need a denoiser that tells the unconditional estimate beside the guided one (`types.GuidedDenoise`). Guidance
scales are lower than usual, about 1 to 2; but see DDIM CFG++.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from darkroom.diffusion.samplers.ddim import DdimOptions, ddim_steps
from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import AncestralOptions, ancestral, levels
from darkroom.errors import InputError
from darkroom.types import Denoise, GuidedDenoise, NoiseSource, Step

__all__ = [
    "both",
    "ddim_cfg_pp",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2s_ancestral_cfg_pp",
    "euler_ancestral_cfg_pp",
    "euler_cfg_pp",
]

SHARE = 1 / 12.5  # A1111's: guidance scales of 0 … 12.5 are the paper's 0 … 1


def both(denoise: Denoise, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(The guided estimate, the unconditional one)."""
    if not isinstance(denoise, GuidedDenoise):
        raise InputError("samplers of CFG++ need guidance with an unconditional estimate, which there is none of here")
    return denoise.both(x, sigma)


def euler_ancestral_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions
) -> Iterator[Step]:
    for i, sigma, sigma_next in levels(sigmas):
        x0, uncond = both(denoise, x, sigma)
        down, up = ancestral(sigma, sigma_next, options.eta)
        x = x0 + down * (x - uncond) / sigma
        if up > 0:
            x = x + up * options.s_noise * noise(sigma, sigma_next)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def euler_cfg_pp(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    return euler_ancestral_cfg_pp(denoise, x, sigmas, noise, AncestralOptions(eta=0.0))


def ddim_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: DdimOptions
) -> Iterator[Step]:
    """A1111's: the guidance scale counts by `SHARE`, so that the usual ones are right."""

    def estimate(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        x0, uncond = both(denoise, x, sigma)
        return torch.lerp(uncond, x0, SHARE), uncond

    return ddim_steps(estimate, x, sigmas, noise, options)


def dpmpp_2s_ancestral_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions
) -> Iterator[Step]:
    for i, sigma, sigma_next in levels(sigmas):
        x0, uncond = both(denoise, x, sigma)
        guidance = x0 - uncond
        down, up = ancestral(sigma, sigma_next, options.eta)
        if down == 0:
            x = uncond
        else:
            h = sigma.log() - down.log()
            sigma_mid = sigma * (-h / 2).exp()
            x_2 = sigma_mid / sigma * x - (-h / 2).expm1() * uncond
            x = down / sigma * x - (-h).expm1() * both(denoise, x_2, sigma_mid)[1]
        if up > 0:
            x = x + up * options.s_noise * noise(sigma, sigma_next)
        x = x + guidance
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def dpmpp_2m_cfg_pp(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    old_uncond: Tensor | None = None
    for i, sigma, sigma_next in levels(sigmas):
        x0, uncond = both(denoise, x, sigma)
        ratio = sigma_next / sigma  # e^−h
        x = x0 + ratio * (x - uncond)
        if old_uncond is not None and sigma_next > 0:
            r = (sigmas[i - 1] / sigma).log() / -ratio.log()
            x = x + (1 - ratio) / (2 * r) * (x0 - old_uncond)
        old_uncond = uncond
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(SamplerEntry("Euler CFG++", euler_cfg_pp, ("euler_cfg_pp",), needs_uncond=True))
add_sampler(
    SamplerEntry(
        "Euler a CFG++",
        euler_ancestral_cfg_pp,
        ("euler_ancestral_cfg_pp",),
        AncestralOptions,
        needs_uncond=True,
    )
)
add_sampler(
    SamplerEntry(
        "DPM++ 2S a CFG++",
        dpmpp_2s_ancestral_cfg_pp,
        ("dpmpp_2s_ancestral_cfg_pp",),
        AncestralOptions,
        needs_uncond=True,
    )
)
add_sampler(SamplerEntry("DPM++ 2M CFG++", dpmpp_2m_cfg_pp, ("dpmpp_2m_cfg_pp",), needs_uncond=True))
add_sampler(
    SamplerEntry(
        "DDIM CFG++",
        ddim_cfg_pp,
        ("ddim_cfgpp",),
        DdimOptions,
        schedule="leading",
        starts_at_sigma=(),
        needs_uncond=True,
    )
)
