"""How a sampler steps in the tool whose seed mode is chosen: on which schedule, and from which latent.

The same sampler begins and steps differently in every tool. Seeds alone repeat no picture of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers.registry import SAMPLERS
from darkroom.diffusion.seeds import SEED_MODES
from darkroom.diffusion.sigma_schedules import SCHEDULES, SpanOptions, spaced

__all__ = ["Stepping", "stepping"]

# The timestep spacings of Diffusers' schedulers, by their names there and here; True: begins with the last timestep.
SPACINGS = {"leading": False, "linspace": True, "trailing": True}


@dataclass(frozen=True)
class Stepping:
    """`schedule`: its own name. `discard_penultimate`: the lowest level but zero is left out, and one more spaced.

    `within`: the schedule between whose ends Karras's and other levels even in sigma lie, else those of the process.
    `starts_at_sigma`: unit noise is multiplied by the first level sigma, else by sqrt(1 + sigma²).
    """

    schedule: str
    discard_penultimate: bool = False
    within: str | None = None
    starts_at_sigma: bool = False

    def levels(self, process: DiffusionProcess, n: int, options: Mapping[str, object] | None = None) -> Tensor:
        """The sigmas of n steps; `options` of the schedule, which go before the habits of the tool."""
        habits: dict[str, object] = {}
        if self.within is not None and n > 1:
            span = spaced(self.within, process, n)
            habits = {"sigma_min": float(span[-2]), "sigma_max": float(span[0])}
        if self.discard_penultimate:
            habits["discard_penultimate"] = True
        return spaced(self.schedule, process, n, {**habits, **(options or {})})

    def starting_scale(self, sigma: Tensor) -> Tensor:
        """What unit noise is multiplied by where a run starts from nothing else, at the level `sigma`.

        The latents of a VP process have unit variance, so that x = z sqrt(1 + sigma²) begins with sqrt(1 + sigma²); so
        does ComfyUI. k-diffusion begins with sigma, and with it A1111, and Diffusers where the timesteps begin with the
        last and the scheduler is one of k-diffusion's.
        """
        return sigma if self.starts_at_sigma else (1 + sigma.square()).sqrt()


def stepping(
    sampler: str, schedule: str = "automatic", seed_mode: str = "darkroom", spacing: str | None = None
) -> Stepping:
    """How `sampler` steps on `schedule` in the tool of `seed_mode`; "automatic" is what suits the sampler there.

    `spacing`: that which the configuration of the system names; Diffusers keeps it, whatever the sampler and beneath
    Karras's levels. Else its schedulers have one each. This project's own mode keeps "trailing": models that begin at
    the last timestep draw nothing from the first one, which is all that DDIM's own levels are at one step.
    """
    entry = SAMPLERS[sampler]
    mode = SEED_MODES.name(seed_mode)
    tool = "a1111" if mode == "a1111_cpu" else mode
    automatic = schedule.lower() == "automatic"
    chosen = entry.schedule if automatic else SCHEDULES.name(schedule)
    if tool == "diffusers":
        usual = spacing or ("leading" if entry.schedule == "leading" else "linspace")
        if automatic and entry.schedule != "lcm":
            chosen = usual
        starts_at_sigma = tool in entry.starts_at_sigma and SPACINGS[chosen if chosen in SPACINGS else usual]
        if entry.diffusers_leaves_out:  # DPM-Solvers and their kin, whose Karras levels span the process
            return Stepping(f"dpm_{chosen}" if chosen in ("leading", "linspace") else chosen)
        spans = issubclass(SCHEDULES[chosen].options, SpanOptions)
        return Stepping(chosen, within=usual if spans else None, starts_at_sigma=starts_at_sigma)
    if tool == "darkroom" and automatic and chosen == "leading" and spacing == "trailing":
        chosen = spacing
    if tool != "darkroom" and entry.schedule == chosen == "leading":
        chosen = "ddim_uniform"
    return Stepping(chosen, tool in entry.discards_penultimate, None, tool in entry.starts_at_sigma)
