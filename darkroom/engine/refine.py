"""Base and refiner on one schedule: the base draws the noisy part, the refiner goes on from there (papers E.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from darkroom.checkpoints.model import LoadedModel
from darkroom.engine.engine import Draw
from darkroom.engine.pipeline import Events, Pipeline, drawn
from darkroom.engine.run import Desk, Picture, Run
from darkroom.errors import InputError
from darkroom.requests.plan import Plan
from darkroom.systems.system import System
from darkroom.types import Request

__all__ = ["refine", "refined", "refiner_files"]


def refine(
    base: Pipeline, refiner: Pipeline, requests: Sequence[Request], switch: float = 0.8, *, batch_size: int = 8
) -> Events:
    """As `Pipeline.run`, each picture as `refined` has it."""
    draws = [refined(base, refiner, request, switch)[1] for request in requests]
    return drawn(draws, batch_size=batch_size, exact=base.exact)


def refined(base: Pipeline, refiner: Pipeline, request: Request, switch: float = 0.8) -> tuple[Plan, Draw]:
    """The share `switch` of the schedule by `base`, the rest by `refiner` from its latents: (what the whole is like,
    the work). `InputError` where it cannot be done.

    Steps, sampler, schedule and size are the base's; both systems must have the same latents and noise schedule.
    """
    if not 0 < switch < 1:
        raise InputError(f"the base hands over at {switch}, expected is a share between 0 and 1")
    ours, theirs = base.model.system, refiner.model.system
    if (ours.latent_scale, ours.schedule, ours.autoencoder) != (
        theirs.latent_scale,
        theirs.schedule,
        theirs.autoencoder,
    ):
        raise InputError(f"{theirs.name} cannot go on with latents of {ours.name}: first stage or schedule differ")
    first = replace(request, denoising_end=switch, hires=None, inputs=_for(ours, theirs, request.inputs))
    begun, inputs = base.checked(first), _for(theirs, ours, request.inputs)
    whole = replace(begun.filled(), denoising_end=request.denoising_end, hires=request.hires, inputs=inputs)
    whole = replace(whole, controls=())  # control networks are made for the base
    return refiner.checked(whole), partial(_draw, base, refiner, begun, whole, request)


def _draw(base: Pipeline, refiner: Pipeline, begun: Plan, whole: Request, request: Request, desk: Desk) -> Picture:
    latent = Run(begun, base.model, base.shelf, base.controls, desk).latent().x[0]
    rest = replace(whole, latent=latent, denoising_start=begun.request.denoising_end)
    picture = refiner.draw(refiner.checked(rest), desk)
    return replace(picture, plan=replace(picture.plan, request=request))


def refiner_files(refiner: LoadedModel, switch: float) -> dict[str, object]:
    """What a picture's parameters say of its refiner, in A1111's words."""
    return {"Refiner": f"{refiner.name} [{refiner.hash}]", "Refiner switch at": f"{switch:g}"}


def _for(system: System, other: System, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Of `inputs` those that `system` reads, and those that neither reads, for them to be refused."""
    own, others = ({name for e in s.embedders for name in e.reads} for s in (system, other))
    return {name: value for name, value in inputs.items() if name in own or name not in others}
