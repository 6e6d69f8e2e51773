"""From one request to another in even steps: between seeds, between prompts, or both."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from darkroom.errors import InputError, require
from darkroom.prompts.grammar import parse
from darkroom.prompts.syntaxes import in_own_syntax
from darkroom.prompts.tree import Part, Prompt
from darkroom.types import Request

__all__ = ["interpolated"]

MAX_FRAMES = 10_000  # all of them are kept until the file is written


def interpolated(first: Request, second: Request, frames: int) -> list[Request]:
    """`frames` requests from `first` to `second`, both included; all else must agree.

    The starting noise goes along the arc between the two seeds' (`diffusion.seeds.slerp`). Between prompts the two
    estimates are mixed, by AND with weights that add up to one.
    """
    first, second = in_own_syntax(first), in_own_syntax(second)
    require(2 <= frames <= MAX_FRAMES, "the number of frames", frames, f"2 to {MAX_FRAMES}")
    unlike = [f.name for f in fields(Request) if not _alike(getattr(first, f.name), getattr(second, f.name))]
    if others := [name for name in unlike if name not in ("prompt", "seed")]:
        raise InputError(f"the two requests differ in more than prompt and seed: {', '.join(others)}")
    if first.variation_seed is not None:
        raise InputError("the requests have a variation seed of their own, which interpolation needs for itself")
    begin, end = parse(first.prompt), parse(second.prompt)
    for request, prompt in ((first, begin), (second, end)):
        if len(prompt.parts) > 1:
            raise InputError(f"the prompt {request.prompt!r} is composed with AND and cannot be mixed with another")
    if begin.loras != end.loras:
        raise InputError("the two prompts name different LoRAs, which act on a whole picture; expected are the same")
    result = []
    for i in range(frames):
        share = i / (frames - 1)
        request = first
        if "seed" in unlike:
            request = replace(request, variation_seed=second.seed, variation_strength=share)
        if "prompt" in unlike and share > 0:
            request = replace(request, prompt=second.prompt if share == 1 else _mixed(begin, end, share))
        result.append(request)
    return result


def _mixed(a: Prompt, b: Prompt, share: float) -> str:
    """Printed from the trees: pasted texts would run into each other's open brackets and weights."""
    parts = (Part(a.parts[0].prompt, round(1 - share, 6)), Part(b.parts[0].prompt, round(share, 6)))
    return str(Prompt(parts, a.loras))


def _alike(a: Any, b: Any) -> bool:
    """Equal, pictures and latents among them by what they hold."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[k], b[k]) for k in a)
    if hasattr(a, "shape") or hasattr(b, "shape"):
        return a is b or (a is not None and b is not None and np.array_equal(np.asarray(a), np.asarray(b)))
    return a == b
