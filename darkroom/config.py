"""Frozen dataclasses from and to TOML or JSON, with `a.b=3` overrides and errors that name the key."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from darkroom.errors import InputError
from darkroom.registry import nearest

__all__ = ["from_dict", "load_toml", "to_dict"]

T = TypeVar("T")


def load_toml(cls: type[T], path: Path | str, overrides: Sequence[str] = ()) -> T:
    """Read the TOML file at `path` into the dataclass `cls`; `overrides` are `dotted.key=value` strings.

    Raises `InputError` naming the file and the key for anything unknown, missing or of the wrong type.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    for override in overrides:
        _apply(data, override)
    return from_dict(cls, data, str(path))


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(f"override {override!r} is not of the form key.subkey=value")
    *parents, last = key.strip().split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise InputError(f"override {override!r}: {parent!r} is a value, not a table")
    try:
        data[last] = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        data[last] = value.strip()  # a bare word is a string


def from_dict(cls: type[T], data: object, where: str = "configuration") -> T:
    """The dataclass `cls` from plain `data` (as TOML and JSON give it); `where` begins the error messages."""
    return _read(cls, data, where, "")


def _read(cls: Any, data: object, where: str, key: str) -> Any:
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, data, where, key)
    if origin is typing.Literal:
        if data not in arguments:
            known = ", ".join(str(a) for a in nearest(str(data), [str(a) for a in arguments]))
            raise InputError(f"{where}: {key} is {data!r}, accepted are: {known}")
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
    if dataclasses.is_dataclass(cls):
        return _read_dataclass(cls, data, where, key)
    if isinstance(cls, type) and issubclass(cls, Enum):
        try:
            return cls(data)
        except ValueError:
            known = ", ".join(str(m.value) for m in cls)
            raise InputError(f"{where}: {key} is {data!r}, accepted are: {known}") from None
    if cls is Path and isinstance(data, str):
        return Path(data)
    if cls is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if cls is Any or (isinstance(data, cls) and not (cls in (int, float) and isinstance(data, bool))):
        return data
    raise _mismatch(
        where,
        key,
        data,
        {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(
            cls, getattr(cls, "__name__", str(cls))
        ),
    )


def _read_union(arguments: tuple[Any, ...], data: object, where: str, key: str) -> Any:
    """`X | None`, or a union of dataclasses told apart by their `kind` (a `Literal` field with a default)."""
    if data is None and type(None) in arguments:
        return None
    candidates = [a for a in arguments if a is not type(None)]
    if len(candidates) == 1:
        return _read(candidates[0], data, where, key)
    by_kind = {_kind(a): a for a in candidates if dataclasses.is_dataclass(a)}
    if isinstance(data, Mapping) and by_kind:
        kind = data.get("kind")
        if kind not in by_kind:
            known = ", ".join(nearest(str(kind), [str(k) for k in by_kind]))
            raise InputError(f"{where}: {key}.kind is {kind!r}, accepted are: {known}")
        return _read(by_kind[kind], data, where, key)
    for candidate in candidates:
        try:
            return _read(candidate, data, where, key)
        except InputError:
            continue
    raise _mismatch(where, key, data, " or ".join(getattr(c, "__name__", str(c)) for c in candidates))


def _kind(cls: Any) -> object:
    return next((f.default for f in dataclasses.fields(cls) if f.name == "kind"), None)


def _read_dataclass(cls: Any, data: object, where: str, key: str) -> Any:
    if not isinstance(data, Mapping):
        raise _mismatch(where, key, data, "a table")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    prefix = f"{key}." if key else ""
    for name in data:
        if name not in fields:
            known = ", ".join(nearest(str(name), list(fields)))
            raise InputError(f"{where}: unknown key {prefix}{name}; known are: {known}")
    for name, field in fields.items():
        if _required(field) and name not in data and type(None) not in typing.get_args(hints[name]):
            raise InputError(f"{where}: key {prefix}{name} is missing")
    # What may be None and is not there is None: `to_dict` leaves such fields out.
    absent = {name: None for name in fields if name not in data and _required(fields[name])}
    values = absent | {name: _read(hints[name], value, where, prefix + name) for name, value in data.items()}
    try:
        return cls(**values)
    except InputError as error:  # a dataclass may check itself in __post_init__
        raise InputError(f"{where}: {prefix.rstrip('.')}{': ' if prefix else ''}{error}") from None


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _mismatch(where: str, key: str, data: object, wanted: str) -> InputError:
    return InputError(f"{where}: {key or 'the whole'} is {json.dumps(data, default=str)}, wanted is {wanted}")


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
