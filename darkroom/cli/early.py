"""What is wrong with requests whatever the model is, found before PyTorch is imported, which takes longer than that."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from darkroom.checkpoints.folders import CONTROLS, LORAS, find_file
from darkroom.checkpoints.locate import place, place_file
from darkroom.checkpoints.model_folders import ModelFolders
from darkroom.errors import InputError
from darkroom.names import names_of, split_name, table
from darkroom.prompts.syntaxes import SYNTAXES, read_prompt
from darkroom.requests.checks import (
    check_controls,
    check_guidance,
    check_hires,
    check_pictures,
    check_regions,
    check_seeds,
    check_sides,
    check_speed,
)
from darkroom.types import Request

__all__ = ["check_early"]


def check_early(requests: Sequence[Request], models: Sequence[str], folders: ModelFolders) -> None:
    """`InputError` for the first mistake in `requests` and in names of models, as the plan of a request has it."""
    for model in models:
        place(model, folders.checkpoints)
    for request in requests:
        _check(request, folders)
        _check_limits(request, models[0], folders)


def _check(request: Request, folders: ModelFolders) -> None:
    if request.sampler is not None:
        names_of("sampler").name(split_name(request.sampler)[0])
    if request.schedule is not None and request.schedule.lower() != "automatic":
        names_of("schedule").name(request.schedule)
    names_of("seed mode").name(request.seed_mode)
    if request.emphasis is not None:
        names_of("emphasis").name(request.emphasis)
    SYNTAXES.name(request.prompt_syntax)
    scale = 1.0 if request.guidance_scale is None else request.guidance_scale
    check_pictures(request)
    check_guidance(scale, request.target_strength, request.guidance)
    check_regions(request.regions)
    check_controls(request.controls)
    for unit in request.controls:
        place_file(CONTROLS, unit.model, folders.controlnet)
    check_seeds(request)
    check_speed(request)
    if request.hires is not None:
        check_hires(request.hires)
    if request.strength is not None and not 0 <= request.strength <= 1:
        raise InputError(f"the strength is {request.strength}, expected is 0 to 1")
    for tag in read_prompt(request.prompt, request.prompt_syntax, []).loras:
        find_file(LORAS, tag.name, folders.loras)
    read_prompt(request.negative_prompt, request.prompt_syntax, [], composed=False)


def _check_limits(request: Request, model: str, folders: ModelFolders) -> None:
    """Of a system of the catalogue its own; of another tool's file what all of those have in common."""
    limits: Mapping[str, Mapping[str, int]] = table()["limits"]
    if model in names_of("system"):
        system = names_of("system").name(model)
        side, steps = limits[system]["side"], limits[system]["steps"]
    else:
        found = place(model, folders.checkpoints)
        own = isinstance(found, Path) and os.path.exists(found / "system.json")  # a system that may be like no other
        system = model
        side = 1 if own else math.gcd(*(limit["side"] for limit in limits.values()))
        steps = max(limit["steps"] for limit in limits.values())
    check_sides(request.width, request.height, side, system)
    if request.steps is not None and not 1 <= request.steps <= steps:
        raise InputError(f"the number of steps is {request.steps}, expected is 1 to {steps}")
