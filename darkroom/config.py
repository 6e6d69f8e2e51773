"""Frozen dataclasses from and to TOML or JSON, with `a.b=3` overrides and errors that name the key."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from darkroom.errors import InputError, cause, printable
from darkroom.input_file import read_text
from darkroom.registry import nearest
from darkroom.toml_lines import parents, toml_lines

__all__ = [
    "apply_override",
    "from_dict",
    "from_plain",
    "from_text",
    "guessed",
    "json_type",
    "load_toml",
    "merged",
    "place_of",
    "read_toml",
    "to_dict",
]

MAX_TOML = 4 << 20  # bytes
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")

T = TypeVar("T")
Where = str | Callable[[str], str]

PLAIN = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
JSON = {int: "integer", float: "number", str: "string", bool: "boolean"}


def load_toml(cls: type[T], path: Path | str, overrides: Sequence[str] = ()) -> T:
    """Read the TOML file at `path` into the dataclass `cls`; `overrides` are `dotted.key=value` strings.

    Raises `InputError` naming the file and the key for anything unknown, missing or of the wrong type.
    """
    data = read_toml(path)
    for override in overrides:
        apply_override(data, override)
    return from_dict(cls, data, lambda key: place_of([Path(path)], overrides, key))


def place_of(paths: Sequence[Path], overrides: Sequence[str], key: str, renamed: Mapping[str, str] = {}) -> str:
    """Where `key` was set, or else what it stands in: by one of `overrides`, or in the first of the TOML files `paths`
    that has it, with the line. `renamed`: what keys of earlier versions are called now."""
    given = {override.partition("=")[0].strip(): f"override {override!r}" for override in overrides}
    places = [given]
    for path in paths:
        lines = toml_lines(read_text(path, MAX_TOML))
        places.append({name: f"{path} line {number}" for name, number in lines.items()})
    made = {table: said for name, said in given.items() for table in parents(name)}  # tables that only overrides name
    for name in parents(key):
        for found in (*places, made):
            for called in (name, *(old for old, new in renamed.items() if new == name)):
                if called in found:
                    return found[called]
    return str(paths[0])


def read_toml(path: Path | str) -> dict[str, Any]:
    """The TOML file at `path` as plain data; `InputError` if it cannot be read."""
    text = read_text(Path(path), MAX_TOML)
    try:
        return _parsed(text)
    except (ValueError, RecursionError) as error:  # also numbers of too many digits
        raise InputError(f"{path} is not valid TOML: {cause(error)}") from None


def _parsed(text: str) -> dict[str, Any]:
    """The TOML in `text`; a ValueError or RecursionError if it is none."""
    if _LONG_KEY.search(text):  # whose parts cost the parser memory by the square
        raise ValueError("a key has more than 64 parts")
    return tomllib.loads(text)


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set the key of `override`, `dotted.key=value`, in the plain `data`."""
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(f"override {override!r} is not of the form key.subkey=value")
    *parents, last = key.strip().split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise InputError(f"override {override!r}: {parent!r} is a value, not a table")
    try:
        data[last] = _parsed(f"x = {value}")["x"]
    except (ValueError, RecursionError):
        data[last] = value.strip()  # a bare word is a string


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `changes` in place of its own; a table of another kind replaces the whole table."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        if (
            isinstance(below, dict)
            and isinstance(value, dict)
            and value.get("kind", below.get("kind")) == below.get("kind")
        ):
            value = merged(below, value)
        result[key] = value
    return result


def from_dict(cls: type[T], data: object, where: Where = "configuration") -> T:
    """The dataclass `cls` from plain `data` (as TOML and JSON give it); `where` begins the error messages, or says for
    a dotted key what does."""
    return _read(cls, data, where, "")


def from_plain(hint: Any, data: object, name: str) -> Any:
    """The value of the type `hint` from plain `data`; `InputError` calls it `name`."""
    return _read(hint, data, "", name)


def _read(cls: Any, data: object, where: Where, key: str) -> Any:
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, data, where, key)
    if origin is typing.Literal:
        if data not in arguments:
            known = ", ".join(str(a) for a in nearest(str(data), [str(a) for a in arguments]))
            raise InputError(f"{_prefix(where, key)}{key} is {data!r}, accepted are: {known}")
        return data
    if origin is tuple:
        if not isinstance(data, (list, tuple)):
            raise _mismatch(where, key, data, "a list")
        variadic = len(arguments) == 2 and arguments[1] is Ellipsis
        if not variadic and len(data) != len(arguments):
            raise _mismatch(where, key, data, f"a list of {len(arguments)} values")
        kinds = [arguments[0]] * len(data) if variadic else arguments
        return tuple(_read(kind, item, where, f"{key}[{i}]") for i, (kind, item) in enumerate(zip(kinds, data)))
    if origin in (dict, Mapping):
        if not isinstance(data, Mapping):
            raise _mismatch(where, key, data, "a table")
        return {k: _read(arguments[1], v, where, f"{key}.{k}".lstrip(".")) for k, v in data.items()}
    if variants := _variants(cls):
        return _read_union(variants, data, where, key)
    if dataclasses.is_dataclass(cls):
        return data if type(data) is cls else _read_dataclass(cls, data, where, key)
    if isinstance(cls, type) and issubclass(cls, Enum):
        try:
            return cls(data)
        except ValueError:
            known = ", ".join(str(m.value) for m in cls)
            raise InputError(f"{_prefix(where, key)}{key} is {data!r}, accepted are: {known}") from None
    if cls is Path and isinstance(data, str):
        return Path(data)
    if cls is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            raise _mismatch(where, key, data, "a number below 1e308") from None
    if cls is Any or (isinstance(data, cls) and not (cls in (int, float) and isinstance(data, bool))):
        return data
    raise _mismatch(where, key, data, PLAIN.get(cls, getattr(cls, "__name__", str(cls))))


def _read_union(arguments: tuple[Any, ...], data: object, where: Where, key: str) -> Any:
    """`X | None`, or one of several dataclasses told apart by their `kind` (a `Literal` field with a default)."""
    if data is None and type(None) in arguments:
        return None
    candidates = [a for a in arguments if a is not type(None)]
    if len(candidates) == 1:
        return _read(candidates[0], data, where, key)
    by_kind = {_kind(a): a for a in candidates if dataclasses.is_dataclass(a)}
    if isinstance(data, Mapping) and by_kind:
        kind = data.get("kind")
        if not isinstance(kind, (str, type(None))) or kind not in by_kind:
            known = ", ".join(nearest(str(kind), [str(k) for k in by_kind]))
            raise InputError(f"{_prefix(where, f'{key}.kind')}{key}.kind is {kind!r}, accepted are: {known}")
        return _read(by_kind[kind], data, where, key)
    for candidate in candidates:
        try:
            return _read(candidate, data, where, key)
        except InputError:
            continue
    raise _mismatch(where, key, data, " or ".join(getattr(c, "__name__", str(c)) for c in candidates))


def _variants(cls: Any) -> tuple[Any, ...]:
    """The dataclasses with a `kind` under a base that is none itself."""
    if not isinstance(cls, type) or dataclasses.is_dataclass(cls) or "kind" not in getattr(cls, "__annotations__", ()):
        return ()
    return tuple(v for v in _subclasses(cls) if dataclasses.is_dataclass(v))


def _subclasses(cls: type) -> list[type]:
    return [v for s in cls.__subclasses__() for v in (s, *_subclasses(s))]


def _kind(cls: Any) -> object:
    return next((f.default for f in dataclasses.fields(cls) if f.name == "kind"), None)


def _read_dataclass(cls: Any, data: object, where: Where, key: str) -> Any:
    if not isinstance(data, Mapping):
        raise _mismatch(where, key, data, "a table")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    prefix = f"{key}." if key else ""
    for name in data:
        if name not in fields:
            known = ", ".join(nearest(str(name), list(fields)))
            raise InputError(f"{_prefix(where, prefix + name)}unknown key {prefix}{name}; known are: {known}")
    for name, field in fields.items():
        if _required(field) and name not in data and type(None) not in typing.get_args(hints[name]):
            raise InputError(f"{_prefix(where, key)}key {prefix}{name} is missing")
    # What may be None and is not there is None: `to_dict` leaves such fields out.
    absent = {name: None for name in fields if name not in data and _required(fields[name])}
    values = absent | {name: _read(hints[name], value, where, prefix + name) for name, value in data.items()}
    try:
        return cls(**values)
    except InputError as error:  # a dataclass may check itself in __post_init__
        name = str(error).partition(" ")[0]
        if re.split(r"[.\[]", name, maxsplit=1)[0] not in fields:  # it is about all of them
            raise InputError(f"{_prefix(where, key)}{key}{': ' if key else ''}{error}") from None
        raise InputError(f"{_prefix(where, prefix + name)}{prefix}{error}") from None


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _mismatch(where: Where, key: str, data: object, wanted: str) -> InputError:
    try:
        shown = printable(json.dumps(data, default=str))
    except (RecursionError, ValueError):  # nested too deeply, or a number of too many digits
        shown = f"a {type(data).__name__}"
    return InputError(f"{_prefix(where, key)}{key or 'the whole'} is {shown}, expected is {wanted}")


def _prefix(where: Where, key: str) -> str:
    place = where if isinstance(where, str) else where(key)
    return f"{place}: " if place else ""


def from_text(hint: Any, text: str, name: str) -> Any:
    """The value of the type `hint` that `text` stands for; `InputError` calls it `name`.

    Numbers of one value stand with commas or blanks between them; `none` is None where that is allowed. Where any type
    will do, the text's own is taken.
    """
    text = text.strip() if hint is not str else text
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    optional = type(None) in kinds
    kind = next(k for k in kinds if k is not type(None))
    if optional and text.lower() == "none":
        return None
    found, expected = _from_text(kind, text), PLAIN.get(kind, "a value")
    if typing.get_origin(kind) is typing.Literal:
        expected = " or ".join(map(str, typing.get_args(kind)))
    elif typing.get_origin(kind) is tuple:
        inside = typing.get_args(kind)
        expected = f"{'some' if inside[-1] is Ellipsis else len(inside)} numbers with commas or blanks between them"
    if found is None or (found == "" and optional):
        raise InputError(f"{name}: {text!r} is wrong, expected {expected}{' (or none)' if optional else ''}")
    return found


def _from_text(kind: Any, text: str) -> Any:
    """None if `text` is no `kind`."""
    if kind is Any:
        return guessed(text)
    if typing.get_origin(kind) is typing.Literal:
        return text if text in typing.get_args(kind) else None
    if typing.get_origin(kind) is tuple:
        parts, inside = text.replace(",", " ").split(), typing.get_args(kind)
        values = [_from_text(inside[0], part) for part in parts]
        fits = bool(values) and (inside[-1] is Ellipsis or len(values) == len(inside))
        return tuple(values) if fits and None not in values else None
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    if kind is int:
        return int(text) if re.fullmatch(r"[+-]?\d{1,20}", text, re.ASCII) else None
    if kind is float:
        return _number(text)
    return text


def guessed(text: str) -> Any:
    """`text` as the truth value or number that it looks like, else as it is."""
    for kind in (bool, int, float):
        if (value := _from_text(kind, text)) is not None:
            return value
    return text


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def json_type(hint: Any) -> dict[str, Any]:
    """The JSON schema of a value of the type `hint`, dataclasses among them."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        options = [json_type(a) for a in inside if a is not type(None)]
        if len(options) == 1 and isinstance(options[0].get("type"), str) and "enum" not in options[0]:
            return {**options[0], "type": [options[0]["type"], "null"]}
        return {"anyOf": [*options, {"type": "null"}]}
    if origin is typing.Literal:
        return {"type": "string", "enum": list(inside)}
    if origin is tuple:
        fixed = {} if inside[-1] is Ellipsis else {"minItems": len(inside), "maxItems": len(inside)}
        return {"type": "array", "items": json_type(inside[0]), **fixed}
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        listed = {f.name: json_type(hints[f.name]) for f in dataclasses.fields(hint)}
        required = [f.name for f in dataclasses.fields(hint) if _required(f)]
        return {"type": "object", "properties": listed, "required": required, "additionalProperties": False}
    return {"type": JSON[hint]} if hint in JSON else {}


def to_dict(value: Any) -> Any:
    """Plain dicts, lists and scalars from a configuration: the inverse of `from_dict`; `None` fields are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init)
        return {name: to_dict(item) for name, item in items if item is not None}
    if isinstance(value, (list, tuple)):
        return [to_dict(item) for item in value]
    if isinstance(value, Mapping):
        return {str(k): to_dict(v) for k, v in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return value
