"""DDIM (Song et al. 2021) on the variance-exploding contract, and DDPM, which is DDIM with eta 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import EndOptions, ancestral, expect, levels, with_end
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["DdimOptions", "ddim", "ddim_steps", "ddpm"]


@dataclass(frozen=True)
class DdimOptions(EndOptions):
    eta: float = 0.0  # 0 is deterministic, 1 is strided DDPM

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(eta=self.eta)


def ddim(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: DdimOptions) -> Iterator[Step]:
    def estimate(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        x0 = denoise(x, sigma)
        return x0, x0

    return ddim_steps(estimate, x, sigmas, noise, options)


def ddim_steps(
    estimate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    options: DdimOptions,
) -> Iterator[Step]:
    """Towards the first estimate of each pair, along the noise that the second leaves of x.

    z_s = sqrt(a_s) z0 + sqrt(1 − a_s − σ̃²) eps + σ̃ noise (papers C.4), divided by sqrt(a_s): with a = 1 / (1 + sigma²)
    the two factors are the ancestral step's sigma_down and sigma_up. The last step returns z0, or what `with_end` says.
    """
    sigmas, shrink = with_end(sigmas, options.end)
    for i, sigma, sigma_next in levels(sigmas):
        x0, base = estimate(x, sigma)
        down, up = ancestral(sigma, sigma_next, options.eta)
        x = x0 + down * (x - base) / sigma
        if up > 0:
            x = x + up * noise(sigma, sigma_next)
        last = i == len(sigmas) - 2
        yield Step(i, len(sigmas) - 1, float(sigma), x * shrink if last else x, x0)


def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    """Ancestral sampling of the strided chain (Ho et al. 2020)."""
    return ddim(denoise, x, sigmas, noise, DdimOptions(eta=1.0))


add_sampler(
    SamplerEntry("DDIM", ddim, options=DdimOptions, schedule="leading", starts_at_sigma=(), diffusers="DDIMScheduler")
)
add_sampler(SamplerEntry("DDPM", ddpm, schedule="leading", starts_at_sigma=(), diffusers="DDPMScheduler"))
