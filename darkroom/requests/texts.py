"""What stands on a line for settings that are no plain values: files of pictures and boxes, regions, options."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from darkroom.config import from_text, guessed
from darkroom.errors import InputError
from darkroom.input_file import read_text
from darkroom.json_file import parse_json
from darkroom.types import Region

__all__ = ["READERS"]

MAX_BOXES = 4 << 20  # bytes


def _picture(text: str) -> Any:
    from darkroom.pictures.reading import read_pixels

    return read_pixels(Path(os.path.expanduser(text)))


def _mask(text: str) -> Any:
    from darkroom.pictures.reading import read_mask

    return read_mask(Path(os.path.expanduser(text)))


def _classes(text: str) -> Any:
    from darkroom.pictures.reading import read_classes

    return read_classes(Path(os.path.expanduser(text)))


def _depth(text: str) -> Any:
    from darkroom.pictures.reading import read_depth

    return read_depth(Path(os.path.expanduser(text)))


def _boxes(text: str) -> list[Any]:
    """The list in a JSON file; what its entries must be is the embedder's matter."""
    found = parse_json(read_text(Path(os.path.expanduser(text)), MAX_BOXES), text)
    if not isinstance(found, list):
        raise InputError(f"{text} holds no list of boxes")
    return found


def _region(text: str) -> Region:
    """`LEFT,TOP,RIGHT,BOTTOM[,WEIGHT]:PROMPT`."""
    place, colon, prompt = text.partition(":")
    try:
        left, top, right, bottom, *weight = from_text(tuple[float, ...], place, "region")
        if not colon or len(weight) > 1:
            raise ValueError
    except ValueError:
        raise InputError(f"the region {text!r} is wrong, expected LEFT,TOP,RIGHT,BOTTOM[,WEIGHT]:PROMPT") from None
    return Region(prompt, (left, top, right, bottom), *weight)


def _option(text: str) -> tuple[str, Any]:
    """`KEY=VALUE` with the value's own type."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"the sampler option {text!r} is wrong, expected KEY=VALUE")
    return key, guessed(value)


READERS: dict[str, Callable[[str], Any]] = {
    "picture": _picture,
    "mask": _mask,
    "classes": _classes,
    "depth": _depth,
    "boxes": _boxes,
    "regions": _region,
    "options": _option,
}
