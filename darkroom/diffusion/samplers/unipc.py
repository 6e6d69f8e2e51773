"""UniPC (Zhao et al. 2023): a predictor and a corrector of any order that share their evaluations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.diffusion.samplers.registry import SamplerEntry, add_sampler
from darkroom.diffusion.samplers.steps import expect, levels
from darkroom.types import Denoise, NoiseSource, Step

__all__ = ["UniPcBh2Options", "UniPcOptions", "unipc", "unipc_bh2"]


@dataclass(frozen=True)
class UniPcBh2Options:
    order: int = 3
    corrector: bool = True
    lower_order_final: bool = True  # the last steps, which are long in λ, at lower order

    def __post_init__(self) -> None:
        expect(1, 4, order=self.order)


@dataclass(frozen=True)
class UniPcOptions(UniPcBh2Options):
    variant: Literal["bh1", "bh2"] = "bh1"  # which function B(h) scales the differences


def unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: UniPcOptions) -> Iterator[Step]:
    """Data prediction, in variance-exploding form: λ = −ln σ, h = λ' − λ (papers C.4).

    The estimate at the predicted point corrects that point and serves the next step, so the corrector costs nothing.
    """
    total, order, variant = len(sigmas) - 1, options.order, options.variant
    lambdas: list[float] = []  # of the estimates, the newest first
    estimates: list[Tensor] = []
    before: Tensor | None = None  # the latent that the last step started from
    last_order = 0
    for i, sigma, sigma_next in levels(sigmas):
        x0 = denoise(x, sigma)
        now = -math.log(float(sigma))
        if options.corrector and before is not None:
            x = _update(before, estimates, lambdas, now, last_order, variant, newest=x0)
        estimates, lambdas = [x0, *estimates[: order - 1]], [now, *lambdas[: order - 1]]
        before = x
        if sigma_next == 0:
            x = x0
        else:
            last_order = min(order, len(estimates), total - i if options.lower_order_final else order)
            x = _update(x, estimates, lambdas, -math.log(float(sigma_next)), last_order, variant)
        yield Step(i, total, float(sigma), x, x0)


def _update(
    x: Tensor,
    estimates: Sequence[Tensor],
    lambdas: Sequence[float],
    end: float,
    order: int,
    variant: str,
    newest: Tensor | None = None,
) -> Tensor:
    """From x at lambdas[0] to `end`: the predictor, or with the estimate `newest` made there the corrector."""
    h = end - lambdas[0]
    q = -h
    scale = q if variant == "bh1" else math.expm1(q)  # B
    m0 = estimates[0]
    ratios = [(lambdas[k] - lambdas[0]) / h for k in range(1, order)]
    differences = [(estimates[k] - m0) / r for k, r in zip(range(1, order), ratios)]
    if newest is not None:
        ratios, differences = [*ratios, 1.0], [*differences, newest - m0]
    x = math.exp(q) * x - math.expm1(q) * m0
    if not differences:
        return x
    for weight, difference in zip(_weights(ratios, q, scale), differences):
        x = x - scale * weight * difference
    return x


def _weights(ratios: Sequence[float], q: float, scale: float) -> list[float]:
    """ρ of R ρ = b, R_ij = r_j^{i−1}, b_i = i! g_i / B; a single one is ½, which keeps the order."""
    n = len(ratios)
    if n == 1:
        return [0.5]
    b, g, factorial = [], math.expm1(q) / q - 1, 1
    for i in range(1, n + 1):
        factorial *= i
        b.append(factorial * g / scale)
        g = g / q - 1 / math.factorial(i + 1)
    matrix = torch.tensor([[r**i for r in ratios] for i in range(n)], dtype=torch.float64)
    return torch.linalg.solve(matrix, torch.tensor(b, dtype=torch.float64)).tolist()


def unipc_bh2(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: NoiseSource, options: UniPcBh2Options
) -> Iterator[Step]:
    return unipc(denoise, x, sigmas, noise, UniPcOptions(**asdict(options), variant="bh2"))


add_sampler(
    SamplerEntry(
        "UniPC",
        unipc,
        ("uni_pc", "UniPCMultistepScheduler"),
        UniPcOptions,
        starts_at_sigma=(),
        diffusers="UniPCMultistepScheduler",
        diffusers_leaves_out=True,
        discards_penultimate=("comfy",),
    )
)
add_sampler(
    SamplerEntry(
        "UniPC BH2",
        unipc_bh2,
        ("uni_pc_bh2",),
        UniPcBh2Options,
        starts_at_sigma=(),
        diffusers="UniPCMultistepScheduler",
        diffusers_leaves_out=True,
        discards_penultimate=("comfy",),
    )
)
