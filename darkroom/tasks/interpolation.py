"""From one request to another in even steps: between seeds, between prompts, or both."""

from __future__ import annotations

from dataclasses import replace

from darkroom.errors import InputError
from darkroom.tasks.prompt.grammar import parse
from darkroom.types import Request

__all__ = ["interpolated"]


def interpolated(first: Request, second: Request, frames: int) -> list[Request]:
    """`frames` requests from `first` to `second`, both included; all else must agree.

    The starting noise goes along the arc between the two seeds' (`diffusion.seeds.slerp`). Between prompts the two
    estimates are mixed, by AND with weights that add up to one.
    """
    if frames < 2:
        raise InputError(f"the number of frames is {frames}, wanted is at least 2")
    if replace(first, prompt="", seed=0) != replace(second, prompt="", seed=0):
        raise InputError("the two requests differ in more than prompt and seed")
    if first.variation_seed is not None:
        raise InputError("the requests have a variation seed of their own, which interpolation needs for itself")
    for request in (first, second):
        if len(parse(request.prompt).parts) > 1:
            raise InputError(f"the prompt {request.prompt!r} is composed with AND and cannot be mixed with another")
    result = []
    for i in range(frames):
        share = i / (frames - 1)
        request = first
        if second.seed != first.seed:
            request = replace(request, variation_seed=second.seed, variation_strength=share)
        if second.prompt != first.prompt:
            request = replace(request, prompt=_mixed(first.prompt, second.prompt, share))
        result.append(request)
    return result


def _mixed(a: str, b: str, share: float) -> str:
    if share in (0, 1):
        return b if share else a
    return f"{a} :{1 - share:.6f} AND {b} :{share:.6f}"
