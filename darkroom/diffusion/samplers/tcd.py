"""TCD (Zheng et al. 2024): trajectory consistency, for models distilled with it (few steps, guidance 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import EndOptions, expect, levels, with_end
from darkroom.noise_schedule import NoiseSchedule
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["TcdOptions", "tcd"]

# Where to go in between is a share of the timestep; those of Stable Diffusion, for which there are such models.
PROCESS = DiffusionProcess(NoiseSchedule("scaled_linear", 0.00085, 0.012), "eps")


@dataclass(frozen=True)
class TcdOptions(EndOptions):
    eta: float = 0.3  # gamma of the paper: 0 is deterministic, 1 noises anew from the clean estimate

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(0, 1, eta=self.eta)


def tcd(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: TcdOptions) -> Iterator[Step]:
    """Down to the timestep (1 − eta) t' by DDIM, then fresh noise up to t'; the last step ends as `with_end` says."""
    sigmas, shrink = with_end(sigmas, options.end)
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        eps = (x - x0) / sigma
        if i == len(sigmas) - 2:
            x = (x0 + sigma_next * eps) * shrink
        else:
            t = (1 - options.eta) * PROCESS.sigma_to_t(sigma_next)
            down = PROCESS.t_to_sigma((t + 1e-3).floor()).to(sigma_next)  # levels went through 32 bits
            x = x0 + (down if options.eta > 0 else sigma_next) * eps
            if options.eta > 0:
                x = x + (sigma_next**2 - down**2).clamp(min=0).sqrt() * noise(sigma, sigma_next)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


add_sampler(SamplerEntry("TCD", tcd, options=TcdOptions, schedule="lcm", diffusers="TCDScheduler"))
