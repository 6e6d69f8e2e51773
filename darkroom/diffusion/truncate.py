"""Parts of a schedule: what image-to-image, refiners and hand-overs run of it (papers C.8, E.4).

Every function takes the falling sigmas (n + 1,) of a whole schedule and returns those of the part that is run; the
latent at its start lies at the first of them.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from darkroom.diffusion.process import DiffusionProcess
from darkroom.errors import InputError

__all__ = ["between", "for_strength"]


def for_strength(
    sigmas: Tensor, strength: float, convention: Literal["diffusers", "generative_models", "a1111"] = "diffusers"
) -> Tensor:
    """The last int(n · strength) steps, for a picture noised to the first level that is returned (SDEdit).

    "generative_models" keeps the last int((n + 1) · strength) levels, the zero among them; "a1111" runs one step more,
    as its k-diffusion samplers do.
    """
    n = len(sigmas) - 1
    if not 0 <= strength <= 1:
        raise InputError(f"the strength is {strength}, expected is 0 to 1")
    # Shares such as 0.29 · 100 fall short of their whole number by rounding alone.
    if convention == "a1111":
        kept = int(n * min(strength, 0.999)) + 1
    else:
        kept = int(n * strength + 1e-9) if convention == "diffusers" else int((n + 1) * strength + 1e-9) - 1
    if kept < 1:
        raise InputError(f"a strength of {strength} leaves none of the {n} steps to run; raise either of the two")
    return sigmas[n - kept :]


def between(process: DiffusionProcess, sigmas: Tensor, start: float = 0.0, end: float = 1.0) -> Tensor:
    """The steps between the shares `start` and `end` of the process: base up to 0.8, refiner from 0.8 on.

    A share s cuts at the timestep round(T − s T): steps from there up belong before the cut (Diffusers' rule). The
    latent that ends one stretch is the one that begins the next.
    """
    if not 0 <= start < end <= 1:
        raise InputError(f"the part {start} to {end} of the schedule is wrong; expected are rising shares in 0 to 1")
    total = process.schedule.steps
    t = process.sigma_to_t(sigmas[:-1])

    def steps_before(share: float) -> int:
        # Levels went through 32 bits: 199.9999 is 200.
        return int((t >= round(total - share * total) - 1e-2).sum())

    first, last = steps_before(start), steps_before(end)
    if first == last:
        raise InputError(f"none of the {len(t)} steps lies between {start} and {end} of the schedule")
    return sigmas[first : last + 1]
