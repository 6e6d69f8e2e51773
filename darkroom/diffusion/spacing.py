"""Schedules: how the noise levels of n steps are spaced (papers C.3). Each falls over n + 1 sigmas, the last zero."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError
from darkroom.registry import Registry

__all__ = ["SCHEDULES", "Schedule", "given", "spaced"]

# schedule(process, n) gives the n levels to evaluate at, falling, float64; `spaced` appends the zero.
Schedule = Callable[[DiffusionProcess, int], Tensor]

SCHEDULES: Registry[Schedule] = Registry("schedule")


def spaced(name: str, process: DiffusionProcess, n: int) -> Tensor:
    """The sigmas (n + 1,) float32 of the schedule `name`, falling to zero."""
    total = process.schedule.steps
    if not 1 <= n <= total:
        raise InputError(f"the number of steps is {n}, wanted is 1 to {total}")
    sigmas = SCHEDULES[name](process, n)
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


def given(sigmas: Sequence[float]) -> Tensor:
    """Levels named by the user: finite, falling, above zero but for the last, which may be zero and else is added."""
    values = [*sigmas] if sigmas and sigmas[-1] == 0 else [*sigmas, 0.0]
    if len(values) < 2 or not all(math.isfinite(v) and v >= 0 for v in values):
        raise InputError(f"sigmas {list(sigmas)} are not a schedule: wanted are finite levels above zero")
    if any(a <= b for a, b in itertools.pairwise(values)):
        raise InputError(f"sigmas {list(sigmas)} do not fall")
    return torch.tensor(values, dtype=torch.float32)


def _at(process: DiffusionProcess, t: Tensor) -> Tensor:
    return process.t_to_sigma(t)


def leading(process: DiffusionProcess, n: int) -> Tensor:
    """i · floor(T/n) + 1: Stable Diffusion's own DDIM and PLMS."""
    total = process.schedule.steps
    return _at(process, (torch.arange(n) * (total // n) + 1).flip(0).clamp(max=total - 1))


def linspace(process: DiffusionProcess, n: int) -> Tensor:
    """Even in t from the last level to the first: k-diffusion's and A1111's "uniform"."""
    return _at(process, torch.linspace(process.schedule.steps - 1, 0, n, dtype=torch.float64))


def trailing(process: DiffusionProcess, n: int) -> Tensor:
    """round(T − i T/n) − 1: always begins at the last level, which zero terminal SNR needs."""
    total = process.schedule.steps
    steps = total - torch.arange(n, dtype=torch.float64) * total / n
    return _at(process, steps.round() - 1)


def karras(process: DiffusionProcess, n: int, rho: float = 7.0) -> Tensor:
    """Even in sigma^(1/rho) between the process's ends (Karras et al. 2022, equation 5)."""
    low, high = float(process.sigmas[0]), float(process.sigmas[-1])
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def exponential(process: DiffusionProcess, n: int) -> Tensor:
    """Even in ln sigma between the process's ends."""
    return torch.linspace(float(process.log_sigmas[-1]), float(process.log_sigmas[0]), n, dtype=torch.float64).exp()


SCHEDULES.add("leading", leading)
SCHEDULES.add("linspace", linspace, "uniform", "normal")
SCHEDULES.add("trailing", trailing)
SCHEDULES.add("karras", karras)
SCHEDULES.add("exponential", exponential)
