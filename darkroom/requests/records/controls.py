"""Control units in records: written with the digests of their pictures, which are read again where they lie."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.config import from_dict
from darkroom.errors import InputError, printable
from darkroom.pictures.reading import read_pixels
from darkroom.requests.records.found import Found, RecordedControl
from darkroom.types import ControlUnit

__all__ = ["described", "fingerprint", "recalled", "recorded", "written"]


def fingerprint(picture: Any) -> str:
    """The first 16 hex digits of the sha256 of the pixels."""
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()[:16]


def described(unit: ControlUnit) -> str:
    """As A1111's ControlNet writes a unit."""
    module = "none" if unit.preprocessor is None else unit.preprocessor
    mode = "ControlNet is more important" if unit.guess else "Balanced"
    return (
        f"Module: {module}, Model: {Path(unit.model).stem}, Weight: {unit.weight:g}, Resize Mode: Crop and Resize, "
        f"Guidance Start: {unit.start:g}, Guidance End: {unit.end:g}, Control Mode: {mode}"
    )


def written(unit: ControlUnit) -> dict[str, Any]:
    """What a unit says besides the defaults, as JSON holds it."""
    said = {f.name: getattr(unit, f.name) for f in fields(unit) if f.name != "image"}
    usual = {f.name: f.default for f in fields(unit)}
    image = {"sha256": fingerprint(unit.image)}
    return {**{name: value for name, value in said.items() if value != usual[name]}, "image": image}


def recorded(entry: Any) -> RecordedControl:
    """The inverse of `written`, but for the picture. `InputError` for what no unit is written as."""
    image = entry.get("image") if isinstance(entry, dict) else None
    if not isinstance(image, dict) or not isinstance(image.get("sha256"), str):
        raise InputError(f"a control is {printable(entry)}, expected is a table with the digest of its picture")
    return RecordedControl(from_dict(ControlUnit, {**entry, "image": None}, "control"), image["sha256"])


def recalled(found: Found) -> Found:
    """`found` with its control units in the request, where their pictures are still what they were."""
    units: list[ControlUnit] = []
    lost: list[str] = []
    for control in found.controls:
        name, path = printable(control.unit.model), control.unit.image_path
        if path is None:
            lost.append(f"the control {name}: its picture was no file")
            continue
        try:
            pixels = read_pixels(Path(path))
        except InputError as error:
            lost.append(f"the control {name}: {error}")
            continue
        if fingerprint(pixels) != control.sha256:
            lost.append(f"the control {name}: its picture {printable(path)} has changed")
        else:
            units.append(replace(control.unit, image=pixels))
    request = replace(found.request, controls=(*found.request.controls, *units))
    return replace(found, request=request, unmapped=(*found.unmapped, *lost), controls=())
