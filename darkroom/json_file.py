"""JSON that others wrote: the one door through which configurations, indexes and headers come in.

Whatever is wrong with the bytes or the text is one `InputError` that names the file. What the values are is asked for
by type, since other tools write numbers as text, as floats, or as null.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from darkroom.errors import InputError, cause
from darkroom.input_file import read_bytes

__all__ = ["parse_json", "parse_table", "read_json", "real", "whole"]

MAX_BYTES = 4 << 20  # of a configuration; the largest public one has some kilobytes


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The table in the file `path`. Raises `InputError` naming the file and the cause."""
    return parse_table(read_bytes(path, max_bytes), str(path))


def parse_table(text: str | bytes, where: str, *, unique: bool = False) -> dict[str, Any]:
    """The table that `text` holds; `where` begins the error message. `unique`: no name may occur twice."""
    table = parse_json(text, where, unique=unique)
    if not isinstance(table, dict):
        raise InputError(f"{where} is not a table but {_named(table)}")
    return table


def parse_json(text: str | bytes, where: str, *, unique: bool = False) -> Any:
    """What `text` holds, of any type; the rest as for `parse_table`."""
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=_unique if unique else None)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON: {cause(error)}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _named(value: object) -> str:
    if value is None:
        return "null"
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "something else")


def real(value: object) -> float | None:
    """`value` as a finite number: whole, fractional or written as text; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def whole(value: object) -> int | None:
    """`value` as a whole number, also where it is written 4.0 or "4"; None for everything else."""
    number = real(value)
    return int(number) if number is not None and number == int(number) else None
