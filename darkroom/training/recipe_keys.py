"""Every key of every recipe, with its default and meaning: read off the dataclasses that recipes are read into."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import textwrap
import tokenize
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from darkroom.config import to_dict
from darkroom.data.catalog import DatasetConfig
from darkroom.training.recipe import RECIPE_KINDS, recipe_class

__all__ = ["RecipeKey", "all_keys_text", "keys_page", "keys_text", "recipe_keys"]

TYPES = {int: "integer", float: "number", str: "text", bool: "true/false", Path: "path"}
SHARED = ("loop", "data", "buckets")  # tables that all kinds of recipes have alike


@dataclasses.dataclass(frozen=True)
class RecipeKey:
    name: str  # dotted
    type: str
    default: str  # as TOML spells it; "" for none, "required" where it must be given
    meaning: str


def recipe_keys(cls: type[Any], prefix: str = "") -> Iterator[RecipeKey]:
    """The keys of the dataclass `cls`, those of tables below it included, but of a data set only those of [data]."""
    hints, meanings = typing.get_type_hints(cls), _comments(cls)
    for field in dataclasses.fields(cls):
        name, hint = f"{prefix}{field.name}", hints[field.name]
        if (not prefix and field.name == "kind") or not field.init:
            continue
        tables: list[Any] = [t for t in _inside(hint) if dataclasses.is_dataclass(t)]
        if prefix and set(tables) >= set(typing.get_args(DatasetConfig)):
            tables = []
        key = RecipeKey(name, _type(hint), _default(field, hint), meanings.get(field.name, ""))
        if key.meaning or not tables:  # a table says nothing more than its keys
            yield key
        if typing.get_origin(hint) in (dict, Mapping):
            name += ".NAME"
        for table in tables:
            kind = _kind(table) if len(tables) > 1 else None
            for key in recipe_keys(table, f"{name}."):
                if key.name == f"{name}.kind" and kind is not None:
                    continue
                yield dataclasses.replace(key, name=f"{key.name} (kind {kind})") if kind else key


def keys_text(kind: str | None = None) -> dict[str, str]:
    """For a terminal: by table or kind, the keys of recipes of `kind`, or of all kinds, what they share only once."""
    if kind is not None:
        return {kind: _lines(f'kind = "{kind}"', list(recipe_keys(recipe_class(kind))))}
    return {name: _lines(name, keys) for name, keys in _sections().items()}


def all_keys_text() -> str:
    """What `recipe-keys.txt` holds, which `darkroom train --help` shows without reading the recipes' code."""
    return "\n\n".join(keys_text().values()) + "\n"


def _lines(title: str, keys: list[RecipeKey]) -> str:
    lines = [title]
    for key in keys:
        lines.append(f"  {key.name}  {key.type}{key.default and f', default {key.default}'}")
        lines += textwrap.wrap(key.meaning, 110, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines).replace("default required", "required")


def _sections() -> dict[str, list[RecipeKey]]:
    """The keys of the tables that all kinds share, then those that each kind has of its own."""
    own = {kind: list(recipe_keys(recipe_class(kind))) for kind in sorted(RECIPE_KINDS)}
    tables = {f"[{t}]": [k for k in own["diffusion"] if k.name.split(".")[0] == t] for t in SHARED}
    shared = {key for keys in tables.values() for key in keys}
    return tables | {f'kind = "{kind}"': [k for k in keys if k not in shared] for kind, keys in own.items()}


def keys_page() -> str:
    """The page `docs/recipe-keys.md`."""
    parts = [
        "# Keys of recipes",
        "Written by `darkroom train keys --page`; a test keeps it equal to the code. `darkroom train keys KIND` prints "
        "those of one kind. A key stands in the recipe's TOML or behind its name: `darkroom train recipe.toml "
        "loop.steps=100`. [training.md](training.md) tells how they work together.",
    ]
    for title, keys in _sections().items():
        parts += [f"## `{title}`", _table(keys)]
    return "\n\n".join(parts) + "\n"


def _table(keys: list[RecipeKey]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    cells = ((f"`{k.name}`", k.type, f"`{k.default}`" if k.default else "", k.meaning) for k in keys)
    return "\n".join([*rows, *("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in cells)])


def _comments(cls: type[Any]) -> dict[str, str]:
    """What stands behind each field of `cls`, and of the dataclasses that it extends, in their source."""
    found: dict[str, str] = {}
    for base in reversed([b for b in cls.__mro__ if dataclasses.is_dataclass(b)]):
        source = textwrap.dedent(inspect.getsource(base))
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef), "the source of a class"
        for statement in body.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                lines = range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)
                if told := " ".join(comments[n] for n in lines if n in comments):
                    found[statement.target.id] = told
    return found


def _type(hint: Any) -> str:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(_type(t) for t in inside if t is not type(None)))
    if origin is Literal:
        return " or ".join(json.dumps(value) for value in inside)
    if origin is tuple:
        return f"list of {_type(inside[0])}"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(hint):
        return "table"
    return TYPES.get(hint, "value")


def _default(field: dataclasses.Field[Any], hint: Any) -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "" if type(None) in typing.get_args(hint) else "required"
    if value is None or dataclasses.is_dataclass(value):
        return ""
    return json.dumps(to_dict(value), ensure_ascii=False)


def _inside(hint: Any) -> list[Any]:
    """The types within unions, tuples and mappings."""
    inside = typing.get_args(hint)
    if not inside or typing.get_origin(hint) is Literal:
        return [hint]
    return [t for part in inside for t in _inside(part)]


def _kind(cls: type[Any]) -> str | None:
    return next((str(f.default) for f in dataclasses.fields(cls) if f.name == "kind"), None)
