"""Sigma schedules: how the noise levels of n steps are spaced (papers C.3). Each falls over its sigmas to zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from darkroom.config import from_dict
from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError
from darkroom.registry import Registry

__all__ = [
    "SCHEDULES",
    "ScheduleEntry",
    "ScheduleOptions",
    "SpanOptions",
    "add_schedule",
    "given",
    "karras_between",
    "spaced",
]


@dataclass(frozen=True)
class ScheduleOptions:
    """What can be set of every schedule."""

    discard_penultimate: bool = False  # one level more is spaced, and the lowest is left out


@dataclass(frozen=True)
class ScheduleEntry:
    """A schedule: `levels(process, n)` gives the n levels to evaluate at, falling, float64; `spaced` appends the zero.

    Where it has options of its own, a subclass of `ScheduleOptions` that checks itself, it takes an instance of them as
    its last argument.
    """

    name: str
    levels: Callable[..., Tensor]
    aliases: tuple[str, ...] = ()  # what ComfyUI and A1111 call it
    options: type[ScheduleOptions] = ScheduleOptions

    def read(self, values: Mapping[str, object]) -> Any:
        """The options `values`; `InputError` for one that it does not have or that cannot be."""
        return from_dict(self.options, dict(values), f"the schedule {self.name}")


SCHEDULES: Registry[ScheduleEntry] = Registry("schedule")


def add_schedule(entry: ScheduleEntry) -> ScheduleEntry:
    """Put `entry` into the table under its name and its aliases."""
    return SCHEDULES.add(entry.name, entry, *entry.aliases)


def spaced(name: str, process: DiffusionProcess, n: int, options: Mapping[str, object] | None = None) -> Tensor:
    """The sigmas (n + 1,) float32 of the schedule `name`, falling to zero; of "ddim_uniform" they may be more."""
    entry = SCHEDULES[name]
    read = entry.read(options or {})
    number, most = n + read.discard_penultimate, process.schedule.steps - read.discard_penultimate
    if not 1 <= n <= most:
        raise InputError(f"the number of steps is {n}, expected is 1 to {most}")
    sigmas = entry.levels(process, number) if entry.options is ScheduleOptions else entry.levels(process, number, read)
    if read.discard_penultimate:
        sigmas = sigmas[:-1]
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
    """1 + range(0, T, T // n): CompVis's DDIM and PLMS, with them A1111's, and ComfyUI's "ddim_uniform".

    Where n does not divide T these are more than n: for 30 of 1000 they are 31, from timestep 991 on.
    """
    total = process.schedule.steps
    steps = torch.arange(0, total, total // n) + 1
    return process.sigmas[steps[steps < total].flip(0)]


def dpm_leading(process: DiffusionProcess, n: int) -> Tensor:
    """i · floor(T/(n + 1)) + 1 without the lowest: "leading" of Diffusers' DPM-Solvers, UniPC and DEIS."""
    total = process.schedule.steps
    if n + 1 >= total:
        raise InputError(f"the number of steps is {n}; the schedule dpm_leading has 1 to {total - 2}")
    return process.sigmas[(torch.arange(1, n + 1) * (total // (n + 1)) + 1).flip(0)]


def dpm_linspace(process: DiffusionProcess, n: int) -> Tensor:
    """n + 1 even timesteps, rounded, without the lowest: "linspace" of Diffusers' DPM-Solvers, UniPC and DEIS."""
    even = (torch.arange(n + 1, dtype=torch.float64) * ((process.schedule.steps - 1) / n)).round().long()
    return process.sigmas[even[1:].flip(0)]


def linear_quadratic(process: DiffusionProcess, n: int) -> Tensor:
    """Half of the steps fall linearly by 2.5 % of the highest sigma, the rest quadratically (Mochi; ComfyUI)."""
    few, threshold = n // 2, 0.025
    if n == 1:
        return process.sigmas[-1:]
    i = torch.arange(n, dtype=torch.float64)
    short = few - threshold * n  # of the whole way, had the linear part gone on
    rest = (i - few).clamp(min=0)
    fallen = i * threshold / few + short * (rest / (n - few)) ** 2 / few
    return process.sigmas[-1] * (1 - fallen)


def quadratic(process: DiffusionProcess, n: int) -> Tensor:
    """linspace(0, sqrt(0.8 T), n)² truncated, + 1: CompVis's "quad", dense at low noise (papers C.3)."""
    total = process.schedule.steps
    steps = (torch.linspace(0, math.sqrt(0.8 * total), n, dtype=torch.float64) ** 2).floor() + 1
    # For many steps the first truncated squares coincide; keep them apart by one level.
    steps = torch.maximum(steps, torch.arange(1, n + 1, dtype=torch.float64)).clamp(max=total - 1)
    if (steps.diff() <= 0).any():
        raise InputError(f"the schedule quadratic cannot be made of {n} steps; it can of up to {int(0.8 * total)}")
    return process.t_to_sigma(steps.flip(0))


@dataclass(frozen=True)
class BetaOptions(ScheduleOptions):
    alpha: float = 0.6
    beta: float = 0.6

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if not 0.1 <= value <= 10:
                raise InputError(f"{name} is {value}, expected is 0.1 to 10")


def beta(process: DiffusionProcess, n: int, options: BetaOptions) -> Tensor:
    """Timesteps at quantiles of Beta(alpha, beta): dense at both ends (Lee et al. 2024)."""
    a, b = options.alpha, options.beta
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


@dataclass(frozen=True)
class SpanOptions(ScheduleOptions):
    """The ends of schedules that are even in some way in sigma; None: the first and the last level of the process."""

    sigma_min: float | None = None
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("sigma_min", self.sigma_min), ("sigma_max", self.sigma_max)):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} is {value}, expected is a level above 0")

    def ends(self, process: DiffusionProcess) -> tuple[float, float]:
        """(The lowest level, the highest)."""
        low = float(process.sigmas[0]) if self.sigma_min is None else self.sigma_min
        high = float(process.sigmas[-1]) if self.sigma_max is None else self.sigma_max
        if low >= high:
            raise InputError(f"sigma_min is {low:g}, sigma_max {high:g}; the first must be lower")
        return low, high


@dataclass(frozen=True)
class KarrasOptions(SpanOptions):
    rho: float = 7.0  # the higher, the denser at low levels

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.1 <= self.rho <= 100:
            raise InputError(f"rho is {self.rho}, expected is 0.1 to 100")


def karras(process: DiffusionProcess, n: int, options: KarrasOptions) -> Tensor:
    """Even in sigma^(1/rho) (Karras et al. 2022, equation 5)."""
    return karras_between(*options.ends(process), n, options.rho)


def karras_between(low: float, high: float, n: int, rho: float = 7.0) -> Tensor:
    """n levels from `high` to `low`, even in sigma^(1/rho), float64."""
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def exponential(process: DiffusionProcess, n: int, options: SpanOptions) -> Tensor:
    """Even in ln sigma."""
    low, high = options.ends(process)
    return torch.linspace(math.log(high), math.log(low), n, dtype=torch.float64).exp()


@dataclass(frozen=True)
class PolyexponentialOptions(KarrasOptions):
    rho: float = 1.0  # 1 is exponential


def polyexponential(process: DiffusionProcess, n: int, options: PolyexponentialOptions) -> Tensor:
    """ln sigma falls as a power of the step."""
    low, high = options.ends(process)
    ramp = torch.linspace(1, 0, n, dtype=torch.float64) ** options.rho
    return (ramp * (math.log(high) - math.log(low)) + math.log(low)).exp()


def kl_optimal(process: DiffusionProcess, n: int, options: SpanOptions) -> Tensor:
    """Even in arctan(sigma) (Sabour et al. 2024, theorem 3.1)."""
    low, high = options.ends(process)
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return ((1 - ramp) * math.atan(high) + ramp * math.atan(low)).tan()


@dataclass(frozen=True)
class VpOptions(ScheduleOptions):
    beta_d: float = 19.9
    beta_min: float = 0.1
    eps_s: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in (("beta_d", self.beta_d), ("beta_min", self.beta_min), ("eps_s", self.eps_s)):
            if not 0 < value <= 100:
                raise InputError(f"{name} is {value}, expected is above 0, at most 100")


def vp(process: DiffusionProcess, n: int, options: VpOptions) -> Tensor:
    """Even in the time of the continuous VP process (Song et al. 2021; k-diffusion), whatever the process."""
    t = torch.linspace(1, options.eps_s, n, dtype=torch.float64)
    return (options.beta_d * t**2 / 2 + options.beta_min * t).expm1().sqrt()


# Sabour et al. 2024: levels optimised for ten steps of Stable Diffusion 1 and SDXL; other counts by log-linear
# interpolation.
_ALIGNED = {
    "SD1": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
    "SDXL": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
}


def _aligned(family: str) -> Callable[[DiffusionProcess, int], Tensor]:
    def schedule(process: DiffusionProcess, n: int) -> Tensor:
        known = torch.tensor(_ALIGNED[family], dtype=torch.float64).log()
        at = torch.linspace(0, len(known) - 1, n + 1, dtype=torch.float64)[:-1]
        low = at.floor().long()
        share = at - low
        return ((1 - share) * known[low] + share * known[low + 1]).exp()

    return schedule


for _entry in (
    ScheduleEntry("leading", leading),
    ScheduleEntry("linspace", linspace, ("uniform", "normal", "discrete")),
    ScheduleEntry("trailing", trailing),
    ScheduleEntry("sgm_uniform", sgm_uniform),
    ScheduleEntry("legacy_ddpm", legacy_ddpm, ("generative_models",)),
    ScheduleEntry("simple", simple),
    ScheduleEntry("ddim_uniform", ddim_uniform, ("ddim", "compvis")),
    ScheduleEntry("dpm_leading", dpm_leading),
    ScheduleEntry("dpm_linspace", dpm_linspace),
    ScheduleEntry("quadratic", quadratic),
    ScheduleEntry("linear_quadratic", linear_quadratic),
    ScheduleEntry("beta", beta, options=BetaOptions),
    ScheduleEntry("turbo", turbo),
    ScheduleEntry("lcm", lcm),
    ScheduleEntry("karras", karras, ("ka", "k"), options=KarrasOptions),
    ScheduleEntry("exponential", exponential, options=SpanOptions),
    ScheduleEntry("polyexponential", polyexponential, options=PolyexponentialOptions),
    ScheduleEntry("kl_optimal", kl_optimal, options=SpanOptions),
    ScheduleEntry("vp", vp, options=VpOptions),
    ScheduleEntry("align_your_steps", _aligned("SD1"), ("align_your_steps_sd1", "ays")),
    ScheduleEntry("align_your_steps_sdxl", _aligned("SDXL")),
):
    add_schedule(_entry)
