"""X/Y/Z grids: one request with up to three of its fields varied, as one labelled picture."""

from __future__ import annotations

import csv
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from darkroom.errors import InputError
from darkroom.registry import nearest
from darkroom.tasks.labels import labelled_sheet
from darkroom.tasks.pipeline import Picture
from darkroom.types import Guidance, HighResolution, Request

__all__ = ["Axis", "grid_requests", "grid_sheet", "parse_axis"]

MAX_CELLS = 400
SEARCH = "prompt s/r"  # A1111's name: the first value is searched in the prompt and replaced by each
ALIASES = {"cfg": "guidance", "cfg scale": "guidance", "cfg_scale": "guidance", "schedule type": "schedule"}
ALIASES |= {"denoising": "strength", "denoising strength": "strength", "rescale": "extras.rescale"}
NESTED = {"extras": Guidance, "hires": HighResolution}
# Fields that hold pictures or tables are not typed on a line.
UNTYPED = {"image", "mask", "latent", "target", "regions", "inputs", "sampler_options", "sigmas", "stretch"}


@dataclass(frozen=True)
class Axis:
    """A field of the request by its dotted name, and the values that it takes."""

    name: str
    values: tuple[Any, ...]

    def label(self, value: Any) -> str:
        return str(value) if self.name in (SEARCH, "prompt") else f"{self.name}: {value}"


def parse_axis(text: str) -> Axis:
    """`steps=10,20,30`, `guidance=1..9..2`, `sampler=Euler a,DPM++ 2M`, `prompt s/r=red,blue`.

    Ranges of numbers: `from..to` or `from..to..step`, and A1111's `1-5`, `1-9 (+2)`, `1-10 [5]`. Values with commas
    stand in quotes. `InputError` naming the axis for unknown fields and values of the wrong type.
    """
    name, equals, listed = text.partition("=")
    name = ALIASES.get(name.strip().lower(), name.strip())
    if not equals or not listed.strip():
        raise InputError(f"the axis {text!r} is wrong, wanted is FIELD=VALUE,VALUE,…")
    try:
        raw = next(csv.reader([" ".join(listed.splitlines())], skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"the values of the axis {name!r} cannot be read: {error}") from None
    if name.lower() == SEARCH:
        return Axis(SEARCH, tuple(raw))
    kind = _kind(name)
    values: list[Any] = []
    for value in raw:
        values += _range(value, kind) or [_typed(name, value, kind)]
    return Axis(name, tuple(values))


def grid_requests(request: Request, axes: Sequence[Axis]) -> list[Request]:
    """The requests of all cells: the last axis (z) outermost, the first (x) innermost."""
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MAX_CELLS:
        raise InputError(f"the grid has {count} cells, accepted are at most {MAX_CELLS}")
    requests = [request]
    for axis in reversed(axes):
        requests = [_with(r, axis, value) for r in requests for value in axis.values]
    return requests


def grid_sheet(pictures: Sequence[Picture], axes: Sequence[Axis]) -> np.ndarray:
    """uint8 (H, W, 3): columns are x, rows y, and blocks side by side z; `pictures` as `grid_requests` orders them."""
    x, y, z = (*axes, *[None] * (3 - len(axes)))
    columns, rows, blocks = ([a.label(v) for v in a.values] if a is not None else [""] for a in (x, y, z))
    return labelled_sheet([p.pixels for p in pictures], columns, rows, blocks)


def _with(request: Request, axis: Axis, value: Any) -> Request:
    if axis.name == SEARCH:
        sought = axis.values[0]
        if sought not in request.prompt and sought not in request.negative_prompt:
            raise InputError(f"{SEARCH}: {sought!r} stands neither in the prompt nor in the negative prompt")
        return replace(
            request,
            prompt=request.prompt.replace(sought, value),
            negative_prompt=request.negative_prompt.replace(sought, value),
        )
    outer, _, inner = axis.name.partition(".")
    if not inner:
        return replace(request, **{outer: value})
    holder = getattr(request, outer)
    return replace(request, **{outer: replace(NESTED[outer]() if holder is None else holder, **{inner: value})})


def _kind(name: str) -> type:
    """The type of the values that the field takes: int, float, bool or str."""
    outer, _, inner = name.partition(".")
    known = [f.name for f in fields(Request) if f.name not in UNTYPED | set(NESTED)]
    known += [f"{o}.{f.name}" for o, c in NESTED.items() for f in fields(c) if f.name != "interval"]
    if name not in known:
        listed = ", ".join(nearest(name, [*known, SEARCH])[:12])
        raise InputError(f"unknown axis {name!r}; known are: {listed} …")
    owner: Any = NESTED[outer] if inner else Request
    hint = typing.get_type_hints(owner, localns={"Any": Any})[inner or outer]
    if isinstance(hint, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    if typing.get_origin(hint) is typing.Literal or is_dataclass(hint):
        return str
    return hint


def _typed(name: str, value: str, kind: type) -> Any:
    value = value.strip()
    if kind is bool:
        if value.lower() not in ("true", "false"):
            raise InputError(f"axis {name}: {value!r} is wrong, wanted is true or false")
        return value.lower() == "true"
    try:
        return kind(value)
    except ValueError:
        wanted = {"int": "whole numbers", "float": "numbers"}.get(kind.__name__, kind.__name__)
        raise InputError(f"axis {name}: {value!r} is wrong, wanted are {wanted}") from None


_N = r"(-?\d+(?:\.\d+)?)"
_DOTS = re.compile(rf"{_N}\.\.{_N}(?:\.\.{_N})?")
_PLUS = re.compile(rf"{_N}\s*-\s*{_N}(?:\s*\(\s*([+-]\d+(?:\.\d+)?)\s*\))?")
_COUNT = re.compile(rf"{_N}\s*-\s*{_N}\s*\[\s*(\d+)\s*\]")


def _range(text: str, kind: type) -> list[Any]:
    """The values of a range of numbers; none if `text` is not one."""
    if kind not in (int, float):
        return []
    text = text.strip()
    if found := _COUNT.fullmatch(text):
        first, last, count = float(found[1]), float(found[2]), int(found[3])
        if not 1 <= count <= MAX_CELLS:
            raise InputError(f"the range {text!r} has {count} values, accepted are 1 to {MAX_CELLS}")
        return [kind(round(v, 6)) for v in np.linspace(first, last, count)]
    if not (found := _DOTS.fullmatch(text) or _PLUS.fullmatch(text)):
        return []
    first, last, step = float(found[1]), float(found[2]), float(found[3] or 1)
    if step == 0 or (last - first) * step < 0 or (last - first) / step > MAX_CELLS:
        raise InputError(f"the range {text!r} has no end or too many values, accepted are at most {MAX_CELLS}")
    return [kind(round(first + i * step, 6)) for i in range(int((last - first) / step + 1e-9) + 1)]
