"""X/Y/Z grids: one request with up to three of its fields varied, as one labelled picture."""

from __future__ import annotations

import csv
import itertools
import math
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from darkroom.errors import InputError
from darkroom.pictures.labels import labelled_sheet
from darkroom.registry import nearest
from darkroom.types import Guidance, HighResolution, Request

__all__ = ["Axis", "grid_requests", "grid_sheet", "parse_axis"]

MAX_CELLS = 400
SEARCH = "prompt s/r"  # A1111's name: the first value is searched in the prompt and replaced by each
# What A1111 and others call the fields, in lower case with `_` for blanks.
ALIASES = {"cfg": "guidance_scale", "cfg_scale": "guidance_scale", "rescale": "guidance.rescale"}
ALIASES |= {"schedule_type": "schedule"}
ALIASES |= {"denoising": "strength", "denoising_strength": "strength", "prompt_s/r": SEARCH}
ALIASES |= {"var._seed": "variation_seed", "var._strength": "variation_strength", "eta": "sampler_options.eta"}
NESTED = {"guidance": Guidance, "hires": HighResolution}
OPTIONS = "sampler_options"  # a table: `sampler_options.eta` and the like
# Fields that hold pictures or tables are not typed on a line.
UNTYPED = {"image", "mask", "latent", "target", "regions", "inputs", OPTIONS, *NESTED}


@dataclass(frozen=True)
class Axis:
    """A field of the request by its dotted name, and the values that it takes."""

    name: str
    values: tuple[Any, ...]

    def label(self, value: Any) -> str:
        if isinstance(value, (float, tuple)):
            value = ", ".join(f"{v:.6g}" for v in (value if isinstance(value, tuple) else (value,)))
        return str(value) if self.name in (SEARCH, "prompt") else f"{self.name}: {value}"


def parse_axis(text: str) -> Axis:
    """`steps=10,20,30`, `guidance_scale=1..9..2`, `sampler=Euler a,DPM++ 2M`, `prompt s/r=red,blue`.

    Fields go by their names in `Request`, inner ones with a dot (`guidance.rescale`, `sampler_options.eta`), or by
    A1111's names. Ranges of numbers: `from..to` or `from..to..step`, and A1111's `1-5`, `1-9 (+2)`, `1-10 [5]`.
    Values with commas stand in quotes; numbers that make one value have blanks between them
    (`guidance.interval=0 0.5,0 1`); `none` leaves a field to the system.
    `InputError` naming the axis for unknown fields and values of the wrong type.
    """
    colon = re.match(r"\s*prompt\s+s/r\s*:", text, re.IGNORECASE)  # as A1111 shows it
    name, mark, listed = text.partition(":" if colon else "=")
    name = "_".join(name.lower().split())
    name = ALIASES.get(name, name)
    if not mark or not listed.strip():
        raise InputError(f"the axis {text!r} is wrong, wanted is FIELD=VALUE,VALUE,…")
    try:
        raw = next(csv.reader([" ".join(listed.splitlines())], skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"the values of the axis {name!r} cannot be read: {error}") from None
    if name == SEARCH:
        return Axis(SEARCH, tuple(raw))
    kind = _kind(name)
    values: list[Any] = []
    for value in raw:
        values += _range(name, value.strip(), kind.sort) or [_typed(name, value.strip(), kind)]
    return Axis(name, tuple(values))


def grid_requests(request: Request, axes: Sequence[Axis]) -> list[Request]:
    """The requests of all cells: the last axis (z) outermost, the first (x) innermost."""
    set_by = [axis.name for axis in axes if axis.name != SEARCH]
    if twice := [name for name in set_by if set_by.count(name) > 1]:
        raise InputError(f"two axes of the grid vary {twice[0]}, wanted are axes of different fields")
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_CELLS:
        raise InputError(f"the grid has {count} cells, accepted are at most {MAX_CELLS}")
    requests = []
    for values in itertools.product(*(axis.values for axis in reversed(axes))):
        cell = request
        # Words are replaced last, in the prompt that another axis may have set.
        for axis, value in sorted(zip(reversed(axes), values), key=lambda pair: pair[0].name == SEARCH):
            cell = _with(cell, axis, value)
        requests.append(cell)
    return requests


def grid_sheet(pixels: Sequence[np.ndarray], axes: Sequence[Axis]) -> np.ndarray:
    """uint8 (H, W, 3): columns are x, rows y, and blocks side by side z.

    `pixels`: uint8 (h, w, 3) each, in the order of `grid_requests`.
    """
    x, y, z = (*axes, *[None] * (3 - len(axes)))
    columns, rows, blocks = ([a.label(v) for v in a.values] if a is not None else [""] for a in (x, y, z))
    return labelled_sheet(list(pixels), columns, rows, blocks)


def _with(request: Request, axis: Axis, value: Any) -> Request:
    if axis.name == SEARCH:
        sought = axis.values[0]
        if not sought or (sought not in request.prompt and sought not in request.negative_prompt):
            raise InputError(f"{SEARCH}: {sought!r} stands neither in the prompt nor in the negative prompt")
        return replace(
            request,
            prompt=request.prompt.replace(sought, value),
            negative_prompt=request.negative_prompt.replace(sought, value),
        )
    outer, _, inner = axis.name.partition(".")
    if not inner:
        return replace(request, **{outer: value})
    if outer == OPTIONS:
        return replace(request, sampler_options={**request.sampler_options, inner: value})
    holder = getattr(request, outer)
    return replace(request, **{outer: replace(NESTED[outer]() if holder is None else holder, **{inner: value})})


@dataclass(frozen=True)
class _Kind:
    """What a field takes."""

    sort: type  # int, float, bool or str; tuple: numbers that make one value; object: any of these
    optional: bool = False
    words: tuple[str, ...] = ()  # where only these are accepted
    count: int | None = None  # of a tuple's numbers, where it is fixed


def _kind(name: str) -> _Kind:
    outer, _, inner = name.partition(".")
    if outer == OPTIONS and inner:
        return _Kind(object)  # the sampler checks its options itself
    known = [f.name for f in fields(Request) if f.name not in UNTYPED]
    known += [f"{o}.{f.name}" for o, c in NESTED.items() for f in fields(c)]
    if name not in known:
        listed = ", ".join(nearest(name, [*known, SEARCH, f"{OPTIONS}.eta"])[:12])
        raise InputError(f"unknown axis {name!r}; known are: {listed} …")
    hint: Any = typing.get_type_hints(NESTED[outer] if inner else Request)[inner or outer]
    optional = isinstance(hint, types.UnionType)
    if optional:
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    inside = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return _Kind(str, optional, inside)
    if typing.get_origin(hint) is tuple:
        return _Kind(tuple, optional, count=None if inside[-1] is Ellipsis else len(inside))
    return _Kind(hint, optional)


SPELT = {"true": True, "false": False}
WANTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def _typed(name: str, text: str, kind: _Kind) -> Any:
    """`text` as the field's value; `InputError` if it is none."""
    value: Any = None
    if kind.optional and text.lower() == "none":
        return None
    if kind.sort in (bool, object):
        value = SPELT.get(text.lower())
    if kind.sort in (int, object) and value is None:
        value = int(text) if re.fullmatch(r"[+-]?\d{1,20}", text, re.ASCII) else None
    if kind.sort in (float, object) and value is None:
        value = _number(text)
    if kind.sort is tuple:
        numbers = tuple(_number(part) for part in text.split())
        value = None if None in numbers or len(numbers) != (kind.count or len(numbers)) else numbers or None
    if kind.sort in (str, object) and value is None and (text or name in ("prompt", "negative_prompt")):
        value = None if kind.words and text not in kind.words else text
    if value is not None:
        return value
    wanted = " or ".join(kind.words) or WANTED.get(kind.sort, f"{kind.count or 'some'} numbers with blanks between")
    raise InputError(f"axis {name}: {text!r} is wrong, wanted is {wanted}{' (or none)' if kind.optional else ''}")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


_N = r"(-?\d{1,20}(?:\.\d{1,20})?)"
_DOTS = re.compile(rf"{_N}\.\.{_N}(?:\.\.{_N})?", re.ASCII)
_PLUS = re.compile(rf"{_N}\s*-\s*{_N}(?:\s*\(\s*([+-]\d{{1,20}}(?:\.\d{{1,20}})?)\s*\))?", re.ASCII)
_COUNT = re.compile(rf"{_N}\s*-\s*{_N}\s*\[\s*(\d{{1,9}})\s*\]", re.ASCII)


def _range(name: str, text: str, sort: type) -> list[Any]:
    """The values of a range of numbers; none if `text` is not one."""
    counted = _COUNT.fullmatch(text)
    stepped = _DOTS.fullmatch(text) or _PLUS.fullmatch(text)
    if sort not in (int, float) or not (counted or stepped):
        return []
    found = counted or stepped
    assert found is not None, "one of the two"
    if sort is int and any("." in n for n in found.groups() if n is not None):
        raise InputError(f"axis {name}: the range {text!r} is wrong, wanted are whole numbers")
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
