"""Samplers that go back up: DDPM, consistency sampling (LCM), Restart."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from darkroom.diffusion.samplers.ddim import ddim
from darkroom.diffusion.samplers.registry import SAMPLERS, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["ddpm", "lcm", "restart"]


def ddpm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    """Ancestral sampling of the strided chain (Ho et al. 2020): DDIM with eta 1."""
    return ddim(denoise, x, sigmas, noise, eta=1.0)


def lcm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
    """Denoise wholly, then noise anew to the next level (Luo et al. 2023).

    The consistency models' boundary scalings, c_skip = .25 / (100 t² + .25), differ from 0 and 1 by less than 1e-5 at
    every level that they are sampled from (t ≥ 19) and are left out.
    """
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        x = x0 if following == 0 else x0 + following * noise(sigma, following)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def restart(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    *,
    restarts: tuple[tuple[float, float, int, int], ...] | None = None,
    s_noise: float = 1.0,
) -> Iterator[Step]:
    """Heun, with the stretch between two levels run several times over fresh noise (Xu et al. 2023).

    `restarts`: (low, high, steps, times) each, low and high being brought to the nearest levels of the schedule, so
    that a run that starts below `high` goes back to its own start at most. By default one of A1111's: from 20 steps on,
    levels 0.1 … 2 again with part of the steps.
    """
    total = len(sigmas) - 1
    if restarts is None:
        restarts = ()
        if total >= 20:
            steps, times = (total // 4, 2) if total >= 36 else (9, 1)
            sigmas = torch.cat([_karras(float(sigmas[-2]), float(sigmas[0]), total - steps * times), sigmas[-1:].cpu()])
            restarts = ((0.1, 2.0, steps, times),)
    sigmas = sigmas.to("cpu", torch.float64 if x.dtype == torch.float64 else torch.float32)
    path = [(sigmas[i], sigmas[i + 1]) for i in range(len(sigmas) - 1)]
    for low, high, steps, times in restarts:
        at = min(range(len(path)), key=lambda k: abs(float(path[k][1]) - low))
        bottom = path[at][1]
        top = sigmas[(sigmas - high).abs().argmin()]
        if not 0 < bottom < top:
            continue
        again = _karras(float(bottom), float(top), steps + 1).to(sigmas)
        path[at + 1 : at + 1] = [(again[k], again[k + 1]) for k in range(steps)] * times
    level = sigmas[0]
    for i, (sigma, following) in enumerate(path):
        if sigma > level:  # back up
            x = x + (sigma**2 - level**2).sqrt() * s_noise * noise(sigma, level)
        x0 = denoise(x, sigma)
        d = (x - x0) / sigma
        trial = x + (following - sigma) * d
        if following > 0:
            d = (d + (trial - denoise(trial, following)) / following) / 2
        x = x + (following - sigma) * d
        level = following
        yield Step(i, len(path), float(sigma), x, x0)


def _karras(low: float, high: float, n: int, rho: float = 7.0) -> Tensor:
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


SAMPLERS.add("DDPM", ddpm)
SAMPLERS.add("LCM", lcm)
SAMPLERS.add("Restart", restart)
