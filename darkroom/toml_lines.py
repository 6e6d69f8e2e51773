"""Where in a TOML file a key stands, looked for when an error names it: the parser does not tell."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["parents", "toml_lines"]

LONGEST = 300  # lines of a value; those behind a longer one are not looked for


def toml_lines(text: str) -> dict[str, int]:
    """The line, from 1 on, at which each dotted key of the valid TOML in `text` begins: `loop.steps`, `tools[1].width`;
    of tables too."""
    found: dict[str, int] = {}
    tables: dict[str, int] = {}  # how many [[tables]] there are of a name
    table, begun = "", 1
    lines = text.split("\n")
    for number in range(1, len(lines) + 1):
        try:
            statement = tomllib.loads("\n".join(lines[begun - 1 : number]))
        except ValueError:  # it goes on in the next line
            if number - begun >= LONGEST:
                break
            continue
        header = re.match(r"\s*\[(\[?)", lines[begun - 1])
        if header is not None:
            table = _opened(statement, tables, several=bool(header[1]))
            found.setdefault(table, begun)
        else:
            for key in _keys(statement, table):
                found.setdefault(key, begun)
        begun = number + 1
    return found


def parents(key: str) -> Iterator[str]:
    """`key` and all that it stands in, the nearest first: `tools[1].width`, `tools[1]`, `tools`."""
    while key:
        yield key
        key = key[: max(key.rfind("."), key.rfind("["), 0)]


def _opened(statement: Mapping[str, Any], tables: dict[str, int], *, several: bool) -> str:
    """The full name of the table that a header opens, of those with one name the last one."""
    name, inside = "", statement
    while isinstance(inside, dict) and inside:
        ((part, inside),) = inside.items()
        name = f"{name}.{part}".lstrip(".")
        if several and not isinstance(inside, dict):
            tables[name] = tables.get(name, 0) + 1
        if name in tables:
            name += f"[{tables[name] - 1}]"
    return name


def _keys(value: object, key: str) -> Iterator[str]:
    if key:
        yield key
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _keys(item, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _keys(item, f"{key}[{i}]")
