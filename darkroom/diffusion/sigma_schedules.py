"""Schedules: how the noise levels of n steps are spaced (papers C.3). Each falls over n + 1 sigmas, the last zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError
from darkroom.registry import Registry

__all__ = ["SCHEDULES", "Schedule", "given", "karras_between", "spaced"]

# schedule(process, n) gives the n levels to evaluate at, falling, float64; `spaced` appends the zero.
Schedule = Callable[[DiffusionProcess, int], Tensor]

SCHEDULES: Registry[Schedule] = Registry("schedule")


def spaced(name: str, process: DiffusionProcess, n: int) -> Tensor:
    """The sigmas (n + 1,) float32 of the schedule `name`, falling to zero."""
    total = process.schedule.steps
    if not 1 <= n <= total:
        raise InputError(f"the number of steps is {n}, expected is 1 to {total}")
    sigmas = SCHEDULES[name](process, n)
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


def given(sigmas: Sequence[float]) -> Tensor:
    """Levels named by the user: finite, falling, above zero but for the last, which may be zero and else is added."""
    values = torch.tensor([float(s) for s in sigmas], dtype=torch.float32)  # judged as they will be used
    if not len(values) or values[-1] != 0 or sigmas[-1] != 0:
        values = torch.cat([values, values.new_zeros(1)])
    if len(values) < 2 or not torch.isfinite(values).all() or (values < 0).any():
        raise InputError(f"sigmas {list(sigmas)} are not a schedule: expected are finite levels above zero")
    if (values.diff() >= 0).any():
        raise InputError(f"sigmas {list(sigmas)} do not fall")
    return values


def _ends(process: DiffusionProcess) -> tuple[float, float]:
    return float(process.sigmas[0]), float(process.sigmas[-1])


# Even in some way in the timestep


def leading(process: DiffusionProcess, n: int) -> Tensor:
    """i · floor(T/n) + 1: Stable Diffusion's own DDIM and PLMS."""
    total = process.schedule.steps
    offset = 1 if n < total else 0  # all the levels there are leave no room for one
    return process.t_to_sigma((torch.arange(n) * (total // n) + offset).flip(0))


def linspace(process: DiffusionProcess, n: int) -> Tensor:
    """Even in t from the last level to the first: k-diffusion's and A1111's "uniform"."""
    return process.t_to_sigma(torch.linspace(process.schedule.steps - 1, 0, n, dtype=torch.float64))


def trailing(process: DiffusionProcess, n: int) -> Tensor:
    """round(T − i T/n) − 1: always begins at the last level, which zero terminal SNR needs."""
    total = process.schedule.steps
    steps = total - torch.arange(n, dtype=torch.float64) * total / n
    return process.t_to_sigma(steps.round() - 1)


def sgm_uniform(process: DiffusionProcess, n: int) -> Tensor:
    """n + 1 even timesteps from the last level to the first, of which the first level is not evaluated."""
    return process.t_to_sigma(torch.linspace(process.schedule.steps - 1, 0, n + 1, dtype=torch.float64)[:-1])


def legacy_ddpm(process: DiffusionProcess, n: int) -> Tensor:
    """trunc((T − 1)(1 − i/n)): generative-models' own for SDXL; for 4 and 10 steps it is trailing (papers C.3)."""
    total = process.schedule.steps
    return process.t_to_sigma(((total - 1) * (n - torch.arange(n)) // n).double())


def simple(process: DiffusionProcess, n: int) -> Tensor:
    """Every (T/n)-th level counted from the last: ComfyUI's "simple"."""
    total = process.schedule.steps
    return process.sigmas[[total - 1 - int(i * total / n) for i in range(n)]]


def ddim_uniform(process: DiffusionProcess, n: int) -> Tensor:
    """Levels 1, 1 + T//n, … of which the n lowest are taken: ComfyUI's "ddim_uniform".

    Where n does not divide T, ComfyUI goes on to the top and takes more steps than it was asked for.
    """
    total = process.schedule.steps
    offset = 1 if n < total else 0
    return process.sigmas[[offset + i * (total // n) for i in reversed(range(n))]]


def quadratic(process: DiffusionProcess, n: int) -> Tensor:
    """linspace(0, sqrt(0.8 T), n)² truncated, + 1: CompVis's "quad", dense at low noise (papers C.3)."""
    total = process.schedule.steps
    steps = (torch.linspace(0, math.sqrt(0.8 * total), n, dtype=torch.float64) ** 2).floor() + 1
    # For many steps the first truncated squares coincide; keep them apart by one level.
    steps = torch.maximum(steps, torch.arange(1, n + 1, dtype=torch.float64)).clamp(max=total - 1)
    if (steps.diff() <= 0).any():
        raise InputError(f"the schedule quadratic cannot be made of {n} steps; it can of up to {int(0.8 * total)}")
    return process.t_to_sigma(steps.flip(0))


def beta(process: DiffusionProcess, n: int, a: float = 0.6, b: float = 0.6) -> Tensor:
    """Timesteps at quantiles of Beta(.6, .6): dense at both ends (Lee et al. 2024)."""
    shares = 1 - torch.linspace(0, 1, n + 1, dtype=torch.float64)[:-1]
    low, high = torch.zeros_like(shares), torch.ones_like(shares)
    for _ in range(60):  # bisection to the last bit
        middle = (low + high) / 2
        below = _beta_cdf(middle, a, b) < shares
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return process.t_to_sigma(high * (process.schedule.steps - 1))


def _beta_cdf(x: Tensor, a: float, b: float) -> Tensor:
    """I_x(a, b) by its power series (DLMF 8.17.7), which gains a bit a term up to x = ½; beyond, by symmetry."""
    return torch.where(x <= 0.5, _beta_series(x.clamp(max=0.5), a, b), 1 - _beta_series((1 - x).clamp(max=0.5), b, a))


def _beta_series(x: Tensor, a: float, b: float) -> Tensor:
    """x^a / B(a, b) · Σ (1 − b)_k x^k / (k! (a + k))."""
    k = torch.arange(60, dtype=torch.float64)
    rising = torch.cat([torch.ones(1, dtype=torch.float64), ((k[1:] - b) / k[1:]).cumprod(0)])  # (1 − b)_k / k!
    total = (x[:, None] ** k) @ (rising / (a + k))
    return x**a * total * math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))


def turbo(process: DiffusionProcess, n: int) -> Tensor:
    """Levels 0, 100, 200, 300 from the top, as the reference samples its distilled models (papers C.10)."""
    total = process.schedule.steps
    if n > 10:
        raise InputError(f"the number of steps is {n}; the schedule turbo has 1 to 10")
    return process.sigmas[[total - 1 - i * (total // 10) for i in range(n)]]


def lcm(process: DiffusionProcess, n: int) -> Tensor:
    """Even by index out of the 50-step training grid k · 20 − 1, from the top (papers C.4)."""
    total = process.schedule.steps
    grid = [(k + 1) * (total // 50) - 1 for k in range(50)][::-1]
    if n > 50:
        raise InputError(f"the number of steps is {n}; the schedule lcm has 1 to 50")
    return process.sigmas[[grid[i * 50 // n] for i in range(n)]]


# Even in some way in sigma


def karras(process: DiffusionProcess, n: int) -> Tensor:
    """Even in sigma^(1/7) between the process's ends (Karras et al. 2022, equation 5)."""
    return karras_between(*_ends(process), n)


def karras_between(low: float, high: float, n: int, rho: float = 7.0) -> Tensor:
    """n levels from `high` to `low`, even in sigma^(1/rho), float64."""
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def exponential(process: DiffusionProcess, n: int) -> Tensor:
    """Even in ln sigma between the process's ends."""
    low, high = _ends(process)
    return torch.linspace(math.log(high), math.log(low), n, dtype=torch.float64).exp()


def polyexponential(process: DiffusionProcess, n: int, rho: float = 1.0) -> Tensor:
    """ln sigma falls as a power of the step: `rho` 1 is exponential."""
    low, high = _ends(process)
    ramp = torch.linspace(1, 0, n, dtype=torch.float64) ** rho
    return (ramp * (math.log(high) - math.log(low)) + math.log(low)).exp()


def kl_optimal(process: DiffusionProcess, n: int) -> Tensor:
    """Even in arctan(sigma) (Sabour et al. 2024, theorem 3.1)."""
    low, high = _ends(process)
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return ((1 - ramp) * math.atan(high) + ramp * math.atan(low)).tan()


# Sabour et al. 2024: levels optimised for ten steps of Stable Diffusion 1 and SDXL; other counts by log-linear
# interpolation.
_ALIGNED = {
    "SD1": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "SDXL": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
}


def _aligned(family: str) -> Schedule:
    def schedule(process: DiffusionProcess, n: int) -> Tensor:
        known = torch.tensor(_ALIGNED[family], dtype=torch.float64).log()
        at = torch.linspace(0, len(known) - 1, n + 1, dtype=torch.float64)[:-1]
        low = at.floor().long()
        share = at - low
        return ((1 - share) * known[low] + share * known[low + 1]).exp()

    return schedule


SCHEDULES.add("leading", leading)
SCHEDULES.add("linspace", linspace, "uniform", "normal")
SCHEDULES.add("trailing", trailing)
SCHEDULES.add("sgm_uniform", sgm_uniform)
SCHEDULES.add("legacy_ddpm", legacy_ddpm, "generative_models")
SCHEDULES.add("simple", simple)
SCHEDULES.add("ddim_uniform", ddim_uniform, "ddim")
SCHEDULES.add("quadratic", quadratic)
SCHEDULES.add("beta", beta)
SCHEDULES.add("turbo", turbo)
SCHEDULES.add("lcm", lcm)
SCHEDULES.add("karras", karras)
SCHEDULES.add("exponential", exponential)
SCHEDULES.add("polyexponential", polyexponential)
SCHEDULES.add("kl_optimal", kl_optimal)
SCHEDULES.add("align_your_steps", _aligned("SD1"), "align_your_steps_sd1")
SCHEDULES.add("align_your_steps_sdxl", _aligned("SDXL"))
