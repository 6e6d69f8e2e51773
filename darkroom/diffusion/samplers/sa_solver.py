"""SA-Solver (Xue et al. 2023): stochastic Adams methods, a predictor and a corrector that share their evaluations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from darkroom.diffusion.samplers.lagrange import lagrange_weights
from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import expect, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["SaSolverOptions", "sa_solver", "sa_solver_pece"]


@dataclass(frozen=True)
class SaSolverOptions:
    eta: float = 1.0  # tau of the paper: 0 is the ODE, 1 the reverse SDE, between the two levels below
    s_tmin: float = 0.5712  # Stable Diffusion's levels at 80 and …
    s_tmax: float = 5.0924  # … at 20 per cent of its timesteps
    s_noise: float = 1.0
    predictor_order: int = 3
    corrector_order: int = 4  # 0 corrects nothing

    def __post_init__(self) -> None:
        expect(eta=self.eta, s_tmin=self.s_tmin, s_tmax=self.s_tmax, s_noise=self.s_noise)
        expect(1, 4, predictor_order=self.predictor_order)
        expect(0, 4, corrector_order=self.corrector_order)


def sa_solver(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SaSolverOptions
) -> Iterator[Step]:
    """One evaluation a step."""
    return _adams(denoise, x, sigmas, noise, options, again=False)


def sa_solver_pece(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SaSolverOptions
) -> Iterator[Step]:
    """The corrected latent is evaluated again: two evaluations a step."""
    return _adams(denoise, x, sigmas, noise, options, again=True)


def _adams(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: SaSolverOptions, again: bool
) -> Iterator[Step]:
    total, ends_in_zero = len(sigmas) - 1, sigmas[-1] == 0
    known = sigmas.double().tolist()
    lambdas = [-math.log(s) for s in known if s > 0]
    estimates: list[Tensor] = []  # the newest first
    start, fresh, rate = x, x.new_zeros(()), 1.0  # of the step that led here
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        estimates = [x0, *estimates[:3]]
        left = total - 1 - i if ends_in_zero else total  # lower order towards the end
        order = min(options.corrector_order, len(estimates), left + 1)
        if i > 0 and order > 0 and (sigma_next > 0 or again):
            x = _step(start, estimates[:order], lambdas[i::-1][:order], lambdas[i - 1], lambdas[i], rate) + fresh
            if again:
                estimates[0] = x0 = denoise(x, sigma)
        start = x
        if sigma_next == 0:
            x = x0
        else:
            tau = options.eta if options.s_tmin <= sigma_next <= options.s_tmax else 0.0
            order, rate = min(options.predictor_order, len(estimates), left), 1 + tau**2
            h = lambdas[i + 1] - lambdas[i]
            fresh = x.new_zeros(())
            if tau > 0 and options.s_noise > 0:
                spread = known[i + 1] * math.sqrt(-math.expm1(-2 * tau**2 * h)) * options.s_noise
                fresh = spread * noise(sigma, sigma_next)
            x = _step(x, estimates[:order], lambdas[i::-1][:order], lambdas[i], lambdas[i + 1], rate) + fresh
        yield Step(i, total, float(sigma), x, x0)


def _step(
    x: Tensor, estimates: Sequence[Tensor], nodes: Sequence[float], start: float, end: float, rate: float
) -> Tensor:
    """exp(−rate h) x + rate ∫ exp(rate (λ − end)) P(λ) dλ, P through the estimates at `nodes`; rate = 1 + tau²."""
    weights = lagrange_weights(nodes, start, end, rate)
    x = math.exp(-rate * (end - start)) * x
    for weight, estimate in zip(weights, estimates):
        x = x + rate * weight * estimate
    return x


add_sampler(
    SamplerEntry(
        "SA-Solver",
        sa_solver,
        ("sa_solver",),
        SaSolverOptions,
        diffusers="SASolverScheduler",
        diffusers_leaves_out=True,
    )
)
add_sampler(
    SamplerEntry(
        "SA-Solver PECE",
        sa_solver_pece,
        ("sa_solver_pece",),
        SaSolverOptions,
        diffusers="SASolverScheduler",
        diffusers_leaves_out=True,
    )
)
