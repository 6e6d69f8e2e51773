"""X/Y/Z grids: one request with up to three of its fields varied, as one labelled picture."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from darkroom.errors import InputError, cause
from darkroom.pictures.labels import labeled_sheet
from darkroom.requests.change import changed
from darkroom.requests.settings import TABLES, find_setting
from darkroom.types import Request

__all__ = ["Axis", "grid_requests", "grid_sheet", "parse_axis"]

MAX_CELLS = 400
SEARCH = "prompt s/r"  # A1111's name: the first value is searched in the prompt and replaced by each


@dataclass(frozen=True)
class Axis:
    """A setting by its path, and the values that it takes."""

    name: str
    values: tuple[Any, ...]

    def label(self, value: Any) -> str:
        if isinstance(value, (float, tuple)):
            value = ", ".join(f"{v:.6g}" for v in (value if isinstance(value, tuple) else (value,)))
        return str(value) if self.name in (SEARCH, "prompt") else f"{self.name}: {value}"


def parse_axis(text: str) -> Axis:
    """`steps=10,20,30`, `guidance_scale=1..9..2`, `sampler=Euler a,DPM++ 2M`, `prompt s/r=red,blue`.

    The names are those of the table of settings: paths in `Request` (`guidance.rescale`, `sampler_options.eta`), flags,
    or A1111's names. Ranges of numbers: `from..to` or `from..to..step`, and A1111's `1-5`, `1-9 (+2)`, `1-10 [5]`.
    Values with commas stand in quotes; numbers that make one value have blanks between them
    (`guidance.interval=0 0.5,0 1`); `none` leaves a field to the system.
    `InputError` naming the axis for unknown names and values of the wrong type.
    """
    colon = re.match(r"\s*prompt\s+s/r\s*:", text, re.IGNORECASE)  # as A1111 shows it
    name, mark, listed = text.partition(":" if colon else "=")
    if not mark or not listed.strip():
        raise InputError(f"the axis {text!r} is wrong, expected SETTING=VALUE,VALUE,…")
    name = " ".join(name.lower().replace("_", " ").split())
    try:
        raw = next(csv.reader([" ".join(listed.splitlines())], skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"the values of the axis {name!r} cannot be read: {cause(error)}") from None
    if name == SEARCH:
        return Axis(SEARCH, tuple(raw))
    setting = find_setting(name)
    if setting.kind != "value" or setting.path in TABLES:
        raise InputError(f"{setting.path} cannot be the axis of a grid: its values do not stand on a line")
    sort = next((kind for kind in (int, float) if setting.hint in (kind, kind | None)), None)
    values: list[Any] = []
    for value in raw:
        values += _range(setting.path, value.strip(), sort) or [setting.read(value.strip(), f"axis {setting.path}")]
    return Axis(setting.path, tuple(values))


def grid_requests(request: Request, axes: Sequence[Axis]) -> list[Request]:
    """The requests of all cells: the last axis (z) outermost, the first (x) innermost."""
    set_by = [axis.name for axis in axes if axis.name != SEARCH]
    if twice := [name for name in set_by if set_by.count(name) > 1]:
        raise InputError(f"two axes of the grid vary {twice[0]}, expected are axes of different settings")
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_CELLS:
        raise InputError(f"the grid has {count} cells, accepted are at most {MAX_CELLS}")
    axes = list(reversed(axes))
    return [_cell(request, dict(zip(axes, values))) for values in itertools.product(*(axis.values for axis in axes))]


def grid_sheet(pixels: Sequence[np.ndarray], axes: Sequence[Axis]) -> np.ndarray:
    """uint8 (H, W, 3): columns are x, rows y, and blocks side by side z.

    `pixels`: uint8 (h, w, 3) each, in the order of `grid_requests`.
    """
    x, y, z = (*axes, *[None] * (3 - len(axes)))
    columns, rows, blocks = ([a.label(v) for v in a.values] if a is not None else [""] for a in (x, y, z))
    return labeled_sheet(list(pixels), columns, rows, blocks)


def _cell(request: Request, values: Mapping[Axis, Any]) -> Request:
    """Words are replaced last, in the prompt that another axis may have set."""
    cell = changed(request, {axis.name: value for axis, value in values.items() if axis.name != SEARCH})
    for axis, value in values.items():
        if axis.name == SEARCH:
            cell = _replaced(cell, axis.values[0], value)
    return cell


def _replaced(request: Request, sought: str, value: str) -> Request:
    prompts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    if not sought or not any(sought in text for text in prompts.values()):
        raise InputError(f"{SEARCH}: {sought!r} stands neither in the prompt nor in the negative prompt")
    return replace(request, **{name: text.replace(sought, value) for name, text in prompts.items()})


_N = r"(-?\d{1,20}(?:\.\d{1,20})?)"
_DOTS = re.compile(rf"{_N}\.\.{_N}(?:\.\.{_N})?", re.ASCII)
_PLUS = re.compile(rf"{_N}\s*-\s*{_N}(?:\s*\(\s*([+-]\d{{1,20}}(?:\.\d{{1,20}})?)\s*\))?", re.ASCII)
_COUNT = re.compile(rf"{_N}\s*-\s*{_N}\s*\[\s*(\d{{1,9}})\s*\]", re.ASCII)


def _range(name: str, text: str, sort: type | None) -> list[Any]:
    """The values of a range of numbers; none if `text` is not one."""
    counted = _COUNT.fullmatch(text)
    stepped = _DOTS.fullmatch(text) or _PLUS.fullmatch(text)
    if sort is None or not (counted or stepped):
        return []
    found = counted or stepped
    assert found is not None, "one of the two"
    if sort is int and any("." in n for n in found.groups() if n is not None):
        raise InputError(f"axis {name}: the range {text!r} is wrong, expected are whole numbers")
    first, last = sort(found[1]), sort(found[2])
    if counted:
        count = int(counted[3])
        if not 1 <= count <= MAX_CELLS:
            raise InputError(f"axis {name}: the range {text!r} has {count} values, accepted are 1 to {MAX_CELLS}")
        if sort is int:  # rounded down as A1111 does, but nothing twice
            places = (first + (last - first) * i // max(1, count - 1) for i in range(count))
            return list(dict.fromkeys(places))
        return [round(float(v), 6) for v in np.linspace(first, last, count)]
    step = sort(found[3] or 1)
    if step == 0 or (last - first) * step < 0 or (last - first) / step > MAX_CELLS:
        raise InputError(
            f"axis {name}: the range {text!r} has no end or too many values, accepted are at most {MAX_CELLS}"
        )
    values = (first + i * step for i in range(int((last - first) / step + 1e-9) + 1))
    return [v if sort is int else round(v, 6) for v in values]
