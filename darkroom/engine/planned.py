"""The work of one picture, whatever the models are: by one, by a base and a refiner, or by super-resolution."""

from __future__ import annotations

from functools import partial

from darkroom.engine.engine import Draw
from darkroom.engine.pipeline import Pipeline
from darkroom.engine.refine import refined
from darkroom.engine.upscale import enlarged, enlarges
from darkroom.requests.plan import Plan
from darkroom.types import Request

__all__ = ["planned"]


def planned(
    pipeline: Pipeline, request: Request, refiner: Pipeline | None = None, switch: float = 0.8
) -> tuple[Plan, Draw]:
    """(What the picture is like, the work on it.) `InputError` where it cannot be done.

    `refiner`: what draws on after the share `switch` of the schedule.
    """
    if refiner is not None:
        return refined(pipeline, refiner, request, switch)
    if enlarges(pipeline.model):
        return enlarged(pipeline, request)
    plan = pipeline.checked(request)
    return plan, partial(pipeline.draw, plan)
