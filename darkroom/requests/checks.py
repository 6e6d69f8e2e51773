"""What of a request can be wrong whatever the system is; every fault is an `InputError` that names it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from darkroom.errors import InputError, printable
from darkroom.pictures.hints import HINTS
from darkroom.registry import nearest
from darkroom.types import ControlUnit, Guidance, HighResolution, Region, Request

if TYPE_CHECKING:
    from darkroom.systems.system import System

__all__ = [
    "check_controls",
    "check_guidance",
    "check_hires",
    "check_inputs",
    "check_pictures",
    "check_regions",
    "check_seeds",
    "check_sides",
    "check_speed",
    "remarks_on",
]

MAX_SEED = 2**64 - 1
MAX_SIDE = 8192
MAX_MERGED = 0.75  # of the tokens: one of each cell of 2 × 2 stays
MAX_SCALE = 1000.0
MAX_CONTROL = 100.0
PLACED_INPUTS = ("boxes", "segmentation", "depth")  # that say what is where in the whole picture

FIELDS = frozenset(f.name for f in fields(Request))


def check_inputs(request: Request, system: System) -> None:
    """Nothing that is given for the embedders is passed over in silence, and what they need is there."""
    known = sorted({name for e in system.embedders for name in e.reads} - FIELDS)
    for name in request.inputs:
        if name not in known:
            reads = f"it reads: {', '.join(nearest(str(name), known))}" if known else "it reads none"
            raise InputError(f"the input {name!r} is given, which {system.name} does not read; {reads}")
    for e in system.embedders:
        if e.required and not e.is_given(request):
            raise InputError(f"{system.name} needs {e.required}")


def check_pictures(request: Request) -> None:
    for name, picture in (("image", request.image), ("target", request.target)):
        if picture is None:
            continue
        _require_pixels(name, picture)
    if request.mask is None:
        return
    if request.image is None:
        raise InputError("a mask is given without the image that it belongs to")
    mask = np.asarray(request.mask)
    if mask.ndim != 2 or 0 in mask.shape:
        raise InputError(f"the mask has shape {list(mask.shape)}, expected are numbers (H, W)")
    if not (mask > 0).any():
        raise InputError("the mask is empty: nothing would be repainted")
    if not 0 <= request.mask_blur <= 1000:
        raise InputError(f"the blur of the mask is {request.mask_blur}, expected are 0 to 1000 pixels")
    if request.mask_padding is not None:
        _check_masked_part(request, request.mask_padding)


def _check_masked_part(request: Request, padding: int) -> None:
    """The masked part alone is drawn: what is said of places of the whole picture would mean others in it."""
    if not 0 <= padding <= MAX_SIDE:
        raise InputError(f"the padding of the mask is {padding}, expected are 0 to {MAX_SIDE} pixels")
    placed = {name: request.inputs.get(name) is not None for name in PLACED_INPUTS}
    placed |= {"regions": bool(request.regions), "a target": request.target is not None}
    for name, given in placed.items():
        if given:
            raise InputError(f"the masked part is drawn alone (mask_padding), which cannot go together with {name}")


def _require_pixels(name: str, picture: Any) -> None:
    shape = getattr(picture, "shape", ())
    if len(shape) != 3 or shape[2] != 3 or picture.dtype != np.uint8 or 0 in shape:
        raise InputError(f"the {name} has shape {list(shape)}, expected are pixels (H, W, 3) of uint8")


def check_controls(units: Sequence[ControlUnit]) -> None:
    """What can be said of them before their files are read."""
    for unit in units:
        name = f"the control {printable(unit.model)}"
        if not unit.model:
            raise InputError("a control names no model: its file or its name is expected")
        _require_pixels(f"picture of {name.removeprefix('the ')}", unit.image)
        if not (math.isfinite(unit.weight) and abs(unit.weight) <= MAX_CONTROL):
            raise InputError(f"the weight of {name} is {unit.weight}, expected is {-MAX_CONTROL:g} to {MAX_CONTROL:g}")
        if not 0 <= unit.start < unit.end <= 1:
            raise InputError(
                f"{name} acts from {unit.start} to {unit.end} of the steps: expected are rising shares between 0 and 1"
            )
        if unit.preprocessor is not None:
            HINTS.name(unit.preprocessor)


def remarks_on(request: Request, width: int, height: int, steps: int, lost: Sequence[str]) -> tuple[str, ...]:
    """Sentences on what is right but may not be meant, for the user to read before the picture is drawn.

    `width`, `height`: of the picture; `steps`: that are run; `lost`: what of the prompts could not be taken over.
    """
    remarks = [f"not taken over from the prompt: {thing}" for thing in lost]
    if request.mask is not None and np.shape(request.mask) != np.shape(request.image)[:2]:
        sizes = (_size_of(request.mask), _size_of(request.image))
        remarks.append("the mask is {}, the image {}: the mask is scaled to fit".format(*sizes))
    remarks += [
        f"the picture of the control {printable(unit.model)} is {_size_of(unit.image)}, the drawing {width}x{height}: "
        "a hint is scaled to cover that, and what sticks out is cut"
        for unit in request.controls
        if unit.image.shape[1] * height != unit.image.shape[0] * width
    ]
    for unit in request.controls:
        name = f"the control {printable(unit.model)}"
        if unit.weight == 0:
            remarks.append(f"{name} has weight 0: its picture changes nothing")
        elif not any(unit.acts(step, steps) for step in range(steps)):
            remarks.append(
                f"no whole step of {steps} lies between {unit.start:g} and {unit.end:g}: {name} changes nothing"
            )
    return tuple(remarks)


def _size_of(picture: Any) -> str:
    height, width = np.shape(picture)[:2]
    return f"{width}x{height}"


def check_seeds(request: Request) -> None:
    for name, seed in (("seed", request.seed), ("variation seed", request.variation_seed)):
        if seed is not None and not 0 <= seed <= MAX_SEED:
            raise InputError(f"the {name} is {seed}, expected is 0 to {MAX_SEED} (or -1 on the command line for any)")
    if not 0 <= request.variation_strength <= 1:
        raise InputError(f"the variation strength is {request.variation_strength}, expected is 0 to 1")


def check_sides(width: int | None, height: int | None, step: int, system: str) -> None:
    """Those that are given: `system` makes multiples of `step`."""
    for name, side in (("width", width), ("height", height)):
        if side is not None and (side % step or not step <= side <= MAX_SIDE):
            multiples = f" in multiples of {step}" if step > 1 else ""
            raise InputError(f"{name} is {side}; {system} makes sides of {step} to {MAX_SIDE}{multiples}")


def check_speed(request: Request) -> None:
    if request.deepcache_interval < 1:
        raise InputError(f"the DeepCache interval is {request.deepcache_interval}, expected is at least 1")
    if not 0 <= request.tome_ratio <= MAX_MERGED:
        raise InputError(f"the share of tokens to merge is {request.tome_ratio}, expected is 0 to {MAX_MERGED}")


def check_guidance(scale: float, target_strength: float, guidance: Guidance) -> None:
    for name, value in (
        ("guidance scale", scale),
        ("scale of perturbed attention", guidance.pag_scale),
        ("strength of the target", target_strength),
    ):
        if not (math.isfinite(value) and abs(value) <= MAX_SCALE):
            raise InputError(f"the {name} is {value}, expected is a number within {-MAX_SCALE:g} to {MAX_SCALE:g}")
    if not 0 <= guidance.rescale <= 1:
        raise InputError(f"the share of guidance to rescale is {guidance.rescale}, expected is 0 to 1")
    if guidance.dynamic_threshold is not None and not 0 < guidance.dynamic_threshold <= 1:
        raise InputError(f"the percentile is {guidance.dynamic_threshold}, expected is a share above 0, at most 1")
    if guidance.interval is not None:
        first, last = guidance.interval
        if not 0 <= first < last <= 1:
            raise InputError(
                f"guidance from {first} to {last} of the steps: expected are rising shares between 0 and 1"
            )


def check_regions(regions: tuple[Region, ...]) -> None:
    for region in regions:
        left, top, right, bottom = region.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise InputError(
                f"the region {region.box} is wrong: expected are left < right and top < bottom between 0 and 1"
            )
        if not 0 < region.weight <= 1:
            raise InputError(
                f"the weight of the region {region.box} is {region.weight}, expected is above 0, at most 1"
            )


def check_hires(hires: HighResolution) -> None:
    if not 1 < hires.scale <= 8:
        raise InputError(f"the second pass enlarges by {hires.scale}, expected is above 1, at most 8")
    if not 0 < hires.strength <= 1:
        raise InputError(f"the strength of the second pass is {hires.strength}, expected is above 0, at most 1")
    if hires.enlarge not in ("latent", "picture"):
        raise InputError(f"unknown way to enlarge {hires.enlarge!r}; known are: latent, picture")
