"""Two methods that look back one step: RES multistep (Zhang et al. 2023) and gradient estimation (Permenter 2024).

Each also as CFG++ (Chung et al. 2024; `cfg_pp.py`): the step away from the guided estimate is the unguided one's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from darkroom.diffusion.samplers.cfg_pp import both
from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import AncestralOptions, ancestral, expect, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["GradientOptions", "gradient_estimation", "res_multistep", "res_multistep_ancestral"]


def res_multistep_ancestral(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions
) -> Iterator[Step]:
    return _res(denoise, x, sigmas, noise, options, cfg_pp=False)


def res_multistep_ancestral_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions
) -> Iterator[Step]:
    return _res(denoise, x, sigmas, noise, options, cfg_pp=True)


def res_multistep(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    return _res(denoise, x, sigmas, noise, AncestralOptions(eta=0.0), cfg_pp=False)


def res_multistep_cfg_pp(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    return _res(denoise, x, sigmas, noise, AncestralOptions(eta=0.0), cfg_pp=True)


def _res(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: AncestralOptions, cfg_pp: bool
) -> Iterator[Step]:
    """x' = e^−h x + ∫ e^(λ − λ') P(λ) dλ, P the line through the last two estimates; λ = −ln σ."""
    old: Tensor | None = None
    old_down = sigmas[0]
    for i, sigma, sigma_next in levels(sigmas):
        x0, base = both(denoise, x, sigma) if cfg_pp else (denoise(x, sigma),) * 2
        down, up = ancestral(sigma, sigma_next, options.eta)
        if down == 0 or old is None:
            x = x0 + down * (x - base) / sigma
        else:
            h = sigma.log() - down.log()
            # The estimate before lies at its own level, but the path began where the noise was added.
            c2 = (old_down.log() - sigmas[i - 1].log()) / h
            x = (-h).exp() * (x + (x0 - base)) - (-h).expm1() * base
            x = x + (1 + (-h).expm1() / h) / c2 * (old - base)
        if options.eta > 0 and up > 0:
            x = x + up * options.s_noise * noise(sigma, sigma_next)
        old, old_down = base, down
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


@dataclass(frozen=True)
class GradientOptions:
    gamma: float = 2.0  # 1 is Euler, 2 the paper's own

    def __post_init__(self) -> None:
        expect(1, 10, gamma=self.gamma)


def gradient_estimation(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: GradientOptions
) -> Iterator[Step]:
    return _gradient(denoise, x, sigmas, options, cfg_pp=False)


def gradient_estimation_cfg_pp(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: GradientOptions
) -> Iterator[Step]:
    return _gradient(denoise, x, sigmas, options, cfg_pp=True)


def _gradient(denoise: Denoise, x: Tensor, sigmas: Tensor, options: GradientOptions, cfg_pp: bool) -> Iterator[Step]:
    """Euler along gamma d + (1 − gamma) d of the step before."""
    old_d: Tensor | None = None
    for i, sigma, sigma_next in levels(sigmas):
        x0, base = both(denoise, x, sigma) if cfg_pp else (denoise(x, sigma),) * 2
        d = (x - base) / sigma
        x = x0 + sigma_next * d
        if old_d is not None and sigma_next > 0:
            x = x + (options.gamma - 1) * (sigma_next - sigma) * (d - old_d)
        old_d = d
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(SamplerEntry("RES multistep", res_multistep, ("res_multistep",)))
add_sampler(SamplerEntry("RES multistep a", res_multistep_ancestral, ("res_multistep_ancestral",), AncestralOptions))
add_sampler(SamplerEntry("RES multistep CFG++", res_multistep_cfg_pp, ("res_multistep_cfg_pp",), needs_uncond=True))
add_sampler(
    SamplerEntry(
        "RES multistep a CFG++",
        res_multistep_ancestral_cfg_pp,
        ("res_multistep_ancestral_cfg_pp",),
        AncestralOptions,
        needs_uncond=True,
    )
)
add_sampler(SamplerEntry("Gradient estimation", gradient_estimation, ("gradient_estimation",), GradientOptions))
add_sampler(
    SamplerEntry(
        "Gradient estimation CFG++",
        gradient_estimation_cfg_pp,
        ("gradient_estimation_cfg_pp",),
        GradientOptions,
        needs_uncond=True,
    )
)
