"""DPM-Solver++ on the reverse SDE (Lu et al. 2022; k-diffusion). With eta 0 each is an ODE solver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from darkroom.diffusion.samplers.registry import SAMPLERS, ancestral, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde"]


def dpmpp_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    r: float = 0.5,  # where between the ends, in ln sigma, the second estimate is made
) -> Iterator[Step]:
    """Two estimates a step, noise in both stages."""
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        if following == 0:
            x = x0
        else:
            h = sigma.log() - following.log()
            middle = sigma * (-r * h).exp()
            down, up = ancestral(sigma, middle, eta)
            trial = down / sigma * x - (down / sigma).log().expm1() * x0 + up * s_noise * noise(sigma, middle)
            mean = (1 - 1 / (2 * r)) * x0 + 1 / (2 * r) * denoise(trial, middle)
            down, up = ancestral(sigma, following, eta)
            x = down / sigma * x - (down / sigma).log().expm1() * mean + up * s_noise * noise(sigma, following)
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def dpmpp_2m_sde(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    noise: NoiseSource,
    *,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver: Literal["midpoint", "heun"] = "midpoint",
) -> Iterator[Step]:
    """One estimate a step, extrapolated from the last two."""
    former: Tensor | None = None
    h_former: Tensor | None = None
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        if following == 0:
            x = x0
        else:
            h = sigma.log() - following.log()
            h_eta = eta * h
            x = following / sigma * (-h_eta).exp() * x - (-h - h_eta).expm1() * x0
            if former is not None and h_former is not None:
                slope = (x0 - former) * h / h_former
                if solver == "heun":
                    x = x + (-(-h - h_eta).expm1() / (-h - h_eta) + 1) * slope
                else:
                    x = x - 0.5 * (-h - h_eta).expm1() * slope
            if eta > 0:
                x = x + following * (-(-2 * h_eta).expm1()).sqrt() * s_noise * noise(sigma, following)
            former, h_former = x0, h
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def dpmpp_3m_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    """One estimate a step, extrapolated from the last three."""
    estimates: list[Tensor] = []  # the newest first
    steps: list[Tensor] = []
    for i, sigma, following in levels(sigmas):
        x0 = denoise(x, sigma)
        if following == 0:
            x = x0
        else:
            h = sigma.log() - following.log()
            h_eta = h * (eta + 1)
            x = (-h_eta).exp() * x - (-h_eta).expm1() * x0
            phi_2 = (-h_eta).expm1() / h_eta + 1
            if len(estimates) == 2:
                r0, r1 = steps[0] / h, steps[1] / h
                d10, d11 = (x0 - estimates[0]) / r0, (estimates[0] - estimates[1]) / r1
                d1 = d10 + (d10 - d11) * r0 / (r0 + r1)
                x = x + phi_2 * d1 - (phi_2 / h_eta - 0.5) * (d10 - d11) / (r0 + r1)
            elif estimates:
                x = x + phi_2 * (x0 - estimates[0]) / (steps[0] / h)
            if eta > 0:
                x = x + following * (-(-2 * h * eta).expm1()).sqrt() * s_noise * noise(sigma, following)
            estimates, steps = [x0, *estimates[:1]], [h, *steps[:1]]
        yield Step(i, len(sigmas) - 1, float(sigma), x, x0)


def dpmpp_2m_sde_heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, *, eta: float = 1.0, s_noise: float = 1.0
) -> Iterator[Step]:
    return dpmpp_2m_sde(denoise, x, sigmas, noise, eta=eta, s_noise=s_noise, solver="heun")


SAMPLERS.add("DPM++ SDE", dpmpp_sde, "dpmpp_sde", "dpmpp_sde_gpu", "k_dpmpp_sde")
SAMPLERS.add("DPM++ 2M SDE", dpmpp_2m_sde, "dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "k_dpmpp_2m_sde")
SAMPLERS.add("DPM++ 2M SDE Heun", dpmpp_2m_sde_heun, "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu")
SAMPLERS.add("DPM++ 3M SDE", dpmpp_3m_sde, "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "k_dpmpp_3m_sde")
