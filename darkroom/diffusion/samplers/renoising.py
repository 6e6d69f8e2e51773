"""Samplers that go back up in noise: consistency sampling (LCM) and Restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import expect, levels
from darkroom.diffusion.sigma_schedules import karras_between
from darkroom.errors import InputError
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["RestartOptions", "lcm", "restart"]


def lcm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    """Denoise wholly, then noise anew to the next level (Luo et al. 2023).

    The consistency models' boundary scalings, c_skip = .25 / (100 t² + .25), differ from 0 and 1 by less than 1e-5 at
    every level that they are sampled from (t ≥ 19) and are left out.
    """
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        x = x0 if sigma_next == 0 else x0 + sigma_next * noise(sigma, sigma_next)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


@dataclass(frozen=True)
class RestartOptions:
    """`restarts`: (low, high, steps, times) each, low and high being brought to the nearest levels of the schedule, so
    that a run that starts below `high` goes back to its own start at most. None is one of A1111's: from 20 steps on,
    levels 0.1 … 2 again with part of the steps.
    """

    restarts: tuple[tuple[float, float, int, int], ...] | None = None
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        expect(s_noise=self.s_noise)
        for low, high, steps, times in self.restarts or ():
            if not (0 <= low < high and steps >= 1 and times >= 0):
                raise InputError(
                    f"a restart is {low:g}, {high:g}, {steps}, {times}, "
                    "expected are two rising levels, 1 step or more and how many times"
                )


def restart(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: RestartOptions) -> Iterator[Step]:
    """Heun, with the steps between two levels run several times over fresh noise (Xu et al. 2023)."""
    restarts = options.restarts
    total = len(sigmas) - 1
    if restarts is None:
        restarts = ()
        if total >= 20:
            steps, times = (total // 4, 2) if total >= 36 else (9, 1)
            once = karras_between(float(sigmas[-2]), float(sigmas[0]), total - steps * times)
            sigmas = torch.cat([once, sigmas[-1:].cpu()])
            restarts = ((0.1, 2.0, steps, times),)
    sigmas = sigmas.to("cpu", torch.float64 if x.dtype == torch.float64 else torch.float32)
    path = [(sigmas[i], sigmas[i + 1]) for i in range(len(sigmas) - 1)]
    for low, high, steps, times in restarts:
        at = min(range(len(path)), key=lambda k: abs(float(path[k][1]) - low))
        bottom = path[at][1]
        top = sigmas[(sigmas - high).abs().argmin()]
        if not 0 < bottom < top:
            continue
        again = karras_between(float(bottom), float(top), steps + 1).to(sigmas)
        path[at + 1 : at + 1] = [(again[k], again[k + 1]) for k in range(steps)] * times
    level = sigmas[0]
    for i, (sigma, sigma_next) in enumerate(path):
        if sigma > level:  # back up
            x = x + (sigma**2 - level**2).sqrt() * options.s_noise * noise(sigma, level)
        x0 = denoise(x, sigma)
        d = (x - x0) / sigma
        x_2 = x + (sigma_next - sigma) * d
        if sigma_next > 0:
            d = (d + (x_2 - denoise(x_2, sigma_next)) / sigma_next) / 2
        x = x + (sigma_next - sigma) * d
        level = sigma_next
        yield Step(i, len(path), float(sigma), x, x0)


add_sampler(SamplerEntry("LCM", lcm, schedule="lcm", diffusers="LCMScheduler"))
add_sampler(
    SamplerEntry("Restart", restart, options=RestartOptions, schedule="karras", diffusers="HeunDiscreteScheduler")
)
