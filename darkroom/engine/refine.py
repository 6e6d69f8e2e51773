"""Base and refiner on one schedule: the base draws the noisy part, the refiner goes on from there (papers E.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from darkroom.engine.pipeline import Picture, Pipeline, Progress
from darkroom.errors import InputError
from darkroom.types import Request

__all__ = ["refine"]


def refine(
    base: Pipeline, refiner: Pipeline, requests: Sequence[Request], switch: float = 0.8, *, batch_size: int = 8
) -> Iterator[Progress | tuple[int, Picture]]:
    """As `Pipeline.run`: the share `switch` of the schedule by `base`, the rest by `refiner` from its latents.

    Steps, sampler, schedule and size are the base's; both systems must have the same latents and noise schedule.
    """
    if not 0 < switch < 1:
        raise InputError(f"the base hands over at {switch}, wanted is a share between 0 and 1")
    ours, theirs = base.model.system, refiner.model.system
    if (ours.latent_scale, ours.schedule, ours.autoencoder) != (
        theirs.latent_scale,
        theirs.schedule,
        theirs.autoencoder,
    ):
        raise InputError(f"{theirs.name} cannot go on with latents of {ours.name}: first stage or schedule differ")
    begun = [replace(r, denoising_end=switch, hires=None) for r in requests]
    rest: dict[int, Request] = {}
    for event in base.run(begun, batch_size=batch_size):
        if isinstance(event, Progress):
            yield event
            continue
        index, picture = event
        plan, request = picture.plan, requests[index]
        rest[index] = replace(
            request,
            latent=picture.latent,
            denoising_start=switch,
            width=plan.width,
            height=plan.height,
            steps=plan.steps,
            guidance_scale=plan.guidance_scale,
            sampler=plan.sampler,
            schedule=plan.schedule,
        )
    for event in refiner.run([rest[i] for i in range(len(requests))], batch_size=batch_size):
        if isinstance(event, Progress):
            yield event
        else:
            index, picture = event
            yield index, replace(picture, plan=replace(picture.plan, request=requests[index]))
