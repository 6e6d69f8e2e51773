"""From a request to everything that a run needs: checked, with the defaults of the system filled in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.spacing import resolve, split_name
from darkroom.errors import InputError
from darkroom.systems.system import System
from darkroom.types import Request

__all__ = ["Plan", "plan"]

MAX_SIDE = 8192
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Plan:
    """A request without gaps. Requests whose plans agree in all but text and seed can share a batch."""

    request: Request
    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    schedule: str

    @property
    def batch_key(self) -> tuple[object, ...]:
        return self.width, self.height, self.steps, self.guidance, self.sampler, self.schedule


def plan(request: Request, system: System) -> Plan:
    """Check `request` against `system`; every fault is an `InputError` naming value and what would be accepted."""
    d = system.defaults
    width = d.width if request.width is None else request.width
    height = d.height if request.height is None else request.height
    # The UNet halves the latent at every level but the first; sides must divide evenly all the way down.
    step = system.autoencoder.factor * 2 ** (len(system.unet.channel_mult) - 1)
    for name, value in (("width", width), ("height", height)):
        if value % step or not step <= value <= MAX_SIDE:
            raise InputError(
                f"{name} is {value}; {system.name} makes sides of {step} to {MAX_SIDE} in multiples of {step}"
            )
    steps = d.steps if request.steps is None else request.steps
    if not 1 <= steps <= system.schedule.steps:
        raise InputError(f"the number of steps is {steps}, wanted is 1 to {system.schedule.steps}")
    guidance = d.guidance if request.guidance is None else request.guidance
    if not (math.isfinite(guidance) and abs(guidance) <= 1000):
        raise InputError(f"the guidance scale is {guidance}, wanted is a number within -1000 to 1000")
    if not 0 <= request.seed <= MAX_SEED:
        raise InputError(f"the seed is {request.seed}, wanted is 0 to {MAX_SEED} (or -1 on the command line for any)")
    sampler, carried = split_name(d.sampler if request.sampler is None else request.sampler)
    sampler = SAMPLERS.name(sampler)
    schedule = request.schedule or carried or (d.schedule if request.sampler is None else "automatic")
    return Plan(request, width, height, steps, guidance, sampler, resolve(schedule, sampler))
