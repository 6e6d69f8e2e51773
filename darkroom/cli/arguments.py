"""What stands on the command line of `darkroom generate`, read into what a request holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.errors import InputError

if TYPE_CHECKING:
    from darkroom.types import Request

__all__ = ["alike", "lora_tag", "numbers", "read_boxes", "read_pictures", "region_of", "setting"]


def read_pictures(**paths: Path | None) -> dict[str, Any]:
    """The pictures in the files, by what they are for."""
    if not any(paths.values()):
        return dict.fromkeys(paths)
    from darkroom.tasks.images import read_mask, read_numbers, read_pixels

    readers = {"mask": read_mask, "segmentation": read_numbers, "depth": read_numbers}
    return {k: None if path is None else readers.get(k, read_pixels)(path) for k, path in paths.items()}


def read_boxes(path: Path | None) -> list[Any] | None:
    """The list in a JSON file; what its entries must be is the embedder's matter."""
    if path is None:
        return None
    import json

    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as boxes: {error}") from None
    if not isinstance(found, list):
        raise InputError(f"{path} holds no list of boxes")
    return found


def numbers(option: str, text: str, count: int | None, kind: type) -> list[Any]:
    """Numbers with commas between them, exactly `count` of them unless that is None."""
    try:
        values = [kind(v) for v in text.split(",")]
    except ValueError:
        values = []
    if not values or (count is not None and len(values) != count):
        raise InputError(f"{option} is {text!r}, wanted are {count or 'some'} numbers with commas between them")
    return values


def setting(entry: str) -> tuple[str, Any]:
    """`key=value` with the value's own type."""
    key, equals, value = entry.partition("=")
    if not equals or not key:
        raise InputError(f"the sampler option {entry!r} is wrong, wanted is KEY=VALUE")
    if value.lower() in ("true", "false"):
        return key, value.lower() == "true"
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value


def region_of(entry: str) -> Any:
    """`LEFT,TOP,RIGHT,BOTTOM[,WEIGHT]:PROMPT` as a region."""
    from darkroom.types import Region

    place, colon, prompt = entry.partition(":")
    try:
        numbers = [float(v) for v in place.split(",")]
    except ValueError:
        numbers = []
    if not colon or len(numbers) not in (4, 5):
        raise InputError(f"the region {entry!r} is wrong, wanted is LEFT,TOP,RIGHT,BOTTOM[,WEIGHT]:PROMPT")
    left, top, right, bottom = numbers[:4]
    return Region(prompt, (left, top, right, bottom), *numbers[4:])


def lora_tag(entry: str) -> str:
    """`name:weight` as a prompt's tag; the name may be a path, the weight is what stands behind the last colon."""
    name, colon, weight = entry.rpartition(":")
    try:
        return f"<lora:{name}:{float(weight):g}>" if colon else f"<lora:{entry}:1>"
    except ValueError:
        return f"<lora:{entry}:1>"


def alike(path: Path, request: Request) -> Request:
    """The request in the picture at `path`, changed by what the command line says besides prompt and seed."""
    from dataclasses import fields, replace

    from darkroom.tasks.metadata import read_picture
    from darkroom.types import Request

    found = read_picture(path)
    for thing in found.unmapped:
        print(f"not taken over from {path}: {thing}", file=sys.stderr)
    said = {f.name: getattr(request, f.name) for f in fields(Request) if f.name not in ("prompt", "seed")}
    pictures = ("image", "mask", "target", "latent")  # arrays, which have no single answer to "equal?"
    changed = {k: v for k, v in said.items() if (v is not None if k in pictures else v != getattr(Request(), k))}
    return replace(found.request, **changed)
