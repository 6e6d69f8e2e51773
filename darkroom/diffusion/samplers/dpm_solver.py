"""DPM-Solver (Lu et al. 2022) with single steps of mixed order: "fast" for a number of evaluations, and adaptive.

Both end, as in k-diffusion, at the last level above zero, with the small residue of noise that is left there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import AncestralOptions, ancestral, expect
from darkroom.errors import InputError
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["DpmAdaptiveOptions", "DpmFastOptions", "dpm_adaptive", "dpm_fast"]


class _SingleStep:
    """Steps of orders 1 to 3 from one point, x at `sigma`, that share their evaluations. λ = −ln σ."""

    def __init__(self, denoise: Denoise, x: Tensor, sigma: Tensor) -> None:
        self.denoise, self.x, self.sigma = denoise, x, sigma
        self.x0 = denoise(x, sigma)
        self.eps = (x - self.x0) / sigma
        self.at: dict[float, Tensor] = {}  # by the share of the step: eps there

    def to(self, end: Tensor, order: int, r: float = 0.5) -> Tensor:
        """x at `end`, r being where in λ the second-order step looks; the third-order one looks at 1/3 and 2/3."""
        h = self.sigma.log() - end.log()
        x = self.x - end * h.expm1() * self.eps
        if order == 1:
            return x
        if order == 2:
            return x - end / (2 * r) * h.expm1() * (self._eps(r, h, None) - self.eps)
        return x - end * 1.5 * (h.expm1() / h - 1) * (self._eps(2 / 3, h, 1 / 3) - self.eps)

    def _eps(self, share: float, h: Tensor, inner: float | None) -> Tensor:
        """eps at the share of the step, reached by a step of the first order, or through `inner` of the second."""
        if share not in self.at:
            part = share * h
            level = self.sigma * (-part).exp()
            x = self.x - level * part.expm1() * self.eps
            if inner is not None:
                bend = self._eps(inner, h, None) - self.eps
                x = x - level * (share / inner) * (part.expm1() / part - 1) * bend
            self.at[share] = (x - self.denoise(x, level)) / level
        return self.at[share]


def _ends(sigmas: Tensor) -> tuple[Tensor, Tensor]:
    above = sigmas[sigmas > 0]
    return above[0], above[-1]


def _down(sigma: Tensor, sigma_next: Tensor, end: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """(The level to step to, which is not below `end`; the noise to add there)."""
    if eta == 0:
        return sigma_next, torch.zeros_like(sigma_next)
    down = torch.maximum(ancestral(sigma, sigma_next, eta)[0], end)
    return down, (sigma_next**2 - down**2).clamp(min=0).sqrt()


@dataclass(frozen=True)
class DpmFastOptions(AncestralOptions):
    eta: float = 0.0


def dpm_fast(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: DpmFastOptions
) -> Iterator[Step]:
    """As many evaluations as `sigmas` has steps, three a step where possible, even in ln sigma between its ends."""
    evaluations = len(sigmas) - 1
    high, low = _ends(sigmas)
    if high == low:  # a single level: nothing lies between
        x0 = denoise(x, high)
        yield Step(0, 1, float(high), x0, x0)
        return
    total = evaluations // 3 + 1
    orders = [3] * (total - 1) + [evaluations % 3] if evaluations % 3 else [3] * (total - 2) + [2, 1]
    path = torch.linspace(math.log(high), math.log(low), total + 1, dtype=sigmas.dtype).exp()
    for i, order in enumerate(orders):
        sigma, sigma_next = path[i], path[i + 1]
        down, up = _down(sigma, sigma_next, path[-1], options.eta)
        step = _SingleStep(denoise, x, sigma)
        x = step.to(down, order)
        if options.eta > 0:
            x = x + up * options.s_noise * noise(sigma, sigma_next)
        yield Step(i, total, float(sigma), x, step.x0)


@dataclass(frozen=True)
class DpmAdaptiveOptions(DpmFastOptions):
    order: Literal[2, 3] = 3
    rtol: float = 0.05  # the error of a step that is let pass, relative to the latent …
    atol: float = 0.0078  # … and at least this; the default is one grey level of 256
    h_init: float = 0.05  # the first step in ln sigma
    pcoeff: float = 0.0  # the controller's proportional, integral and derivative shares
    icoeff: float = 1.0
    dcoeff: float = 0.0
    accept_safety: float = 0.81  # a step is kept if the next one need not be shorter than this share of it

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(1e-6, rtol=self.rtol, atol=self.atol, h_init=self.h_init)
        expect(pcoeff=self.pcoeff, icoeff=self.icoeff, dcoeff=self.dcoeff)
        expect(0, 1, accept_safety=self.accept_safety)


LONGEST = 1000  # tries after which the tolerance is taken as out of reach


def dpm_adaptive(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: DpmAdaptiveOptions
) -> Iterator[Step]:
    """Steps between the ends of `sigmas` whose length the difference of two orders decides; how many is not said.

    A `Step` is yielded for each try; its `total` is what is to be expected at the present length.
    """
    high, low = (s.double() for s in _ends(sigmas))
    if high == low:
        x0 = denoise(x, high)
        yield Step(0, 1, float(high), x0, x0)
        return
    controller = _Controller(options)
    sigma, x_before, tries = high, x, 0
    while sigma > low * math.exp(1e-5):
        sigma_next = torch.maximum(sigma * math.exp(-controller.h), low)
        down, up = _down(sigma, sigma_next, low, options.eta)
        step = _SingleStep(denoise, x, sigma)
        lower = step.to(down, options.order - 1, 1 / 3 if options.order == 3 else 0.5)
        higher = step.to(down, options.order)
        delta = torch.maximum(lower.abs(), x_before.abs()).mul(options.rtol).clamp(min=options.atol)
        error = float(((lower - higher) / delta).square().mean().sqrt())
        start = float(sigma)
        if not math.isfinite(error):
            yield Step(tries, tries + 1, start, higher, step.x0)
            return  # whoever looks at the latent says so
        if controller.accepts(error):
            x_before, x = lower, higher
            if options.eta > 0:
                x = x + up * options.s_noise * noise(sigma, sigma_next)
            sigma = sigma_next
        tries += 1
        left = math.ceil(max(float(sigma.log() - low.log()) - 1e-5, 0) / controller.h)
        if left and tries == LONGEST:
            raise InputError(
                f"DPM adaptive is still at noise level {start:.4g} after {tries} tries; raise its options rtol or atol"
            )
        yield Step(tries - 1, tries + left, start, x, step.x0)


class _Controller:
    """Proportional, integral and derivative control of the step's length `h` in ln sigma."""

    def __init__(self, options: DpmAdaptiveOptions) -> None:
        self.h, self.safety = options.h_init, options.accept_safety
        order = 1.5 if options.eta > 0 else options.order  # of the whole, with noise
        p, i, d = (c / order for c in (options.pcoeff, options.icoeff, options.dcoeff))
        self.powers = (p + i + d, -(p + 2 * d), d)
        self.inverse: list[float] = []  # 1 / error of this try and of the two kept steps before

    def accepts(self, error: float) -> bool:
        """Whether the step of this error is kept; sets the length of the next."""
        now = 1 / (error + 1e-8)
        self.inverse = [now, *(self.inverse[1:] or [now, now])]
        factor = math.prod(e**power for e, power in zip(self.inverse, self.powers))
        factor = 1 + math.atan(factor - 1)
        kept = factor >= self.safety
        if kept:
            self.inverse = [now, now, self.inverse[1]]
        self.h *= factor
        return kept


add_sampler(SamplerEntry("DPM fast", dpm_fast, ("dpm_fast",), DpmFastOptions, diffusers="DPMSolverSinglestepScheduler"))
add_sampler(
    SamplerEntry(
        "DPM adaptive",
        dpm_adaptive,
        ("dpm_adaptive", "k_dpm_ad"),
        DpmAdaptiveOptions,
        diffusers="DPMSolverSinglestepScheduler",
    )
)
