"""Changing a request by the names of the table of settings, and the JSON schema of what can be changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from darkroom.config import from_plain, json_type
from darkroom.errors import InputError
from darkroom.requests.settings import OPEN, SETTINGS, TABLES, Setting, find_setting, inner_class
from darkroom.types import Request

__all__ = ["changed", "check_needs", "said", "schema"]


def changed(request: Request, values: Mapping[str, Any]) -> Request:
    """`request` with `values` in place of what it says.

    Names are those of `find_setting`; a table in place of a value sets its entries (`{"hires": {"scale": 2}}`). Values
    are as JSON or Python have them. `InputError` for a name that is unknown or stands there twice, for a value of the
    wrong type, and for a setting that says nothing without another.
    """
    flat = _flat(values)
    check_needs(flat, request)
    for path, value in flat.items():
        request = _with(request, Setting(path, (), "") if path in TABLES else find_setting(path), value)
    return request


def check_needs(paths: Collection[str], request: Request, *, as_flags: bool = False) -> None:
    """`InputError` for a setting of `paths` that says nothing, as another is neither there nor in `request`.

    `as_flags`: the message names them as the command line does.
    """
    for path in paths:
        setting = find_setting(path)
        if setting.needs is None or _holds(request, setting.needs):
            continue
        if setting.needs in paths or find_setting(setting.needs).outer in paths:
            continue
        names = (s.flags[-1] if as_flags else s.path for s in (setting, find_setting(setting.needs)))
        raise InputError("{} says nothing without {}".format(*names))


def said(request: Request) -> dict[str, Any]:
    """What `request` says besides the defaults, by paths: `changed(Request(), said(request))` equals it."""
    found: dict[str, Any] = {}
    for f in fields(Request):
        value, usual = getattr(request, f.name), getattr(Request(), f.name)
        if f.name in OPEN:
            found |= {f"{f.name}.{inner}": entry for inner, entry in value.items()}
        elif is_dataclass(value):
            parts = {part.name: getattr(value, part.name) for part in fields(value)}
            found |= {f"{f.name}.{n}": v for n, v in parts.items() if usual is None or v != getattr(usual, n)}
        elif hasattr(value, "shape") or value != usual:
            found[f.name] = value
    return found


def schema() -> dict[str, Any]:
    """The JSON schema of what `changed` takes, as plain tables: types, descriptions, defaults.

    What forms are made by besides stands under names with `x-`: `x-panel`, the heading; `x-kind`, how its text or
    picture is to be read, unless it is a plain value; `x-needs`, the setting without which this one says nothing.
    """
    properties: dict[str, Any] = {}
    for setting in SETTINGS:
        if setting.kind == "tensor" or setting.path in OPEN:
            continue
        described = {**_json_type(setting), "description": setting.help}
        if setting.default is not None and setting.kind == "value":
            described["default"] = setting.default
        more = {"x-panel": setting.panel, "x-needs": setting.needs, "x-kind": setting.kind}
        described |= {name: said for name, said in more.items() if said not in (None, "value")}
        if not setting.inner:
            properties[setting.path] = described
            continue
        table = {"type": "object", "properties": {}, "additionalProperties": setting.outer in OPEN}
        properties.setdefault(setting.outer, table)["properties"][setting.inner] = described
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _json_type(setting: Setting) -> dict[str, Any]:
    picture = {"type": ["string", "null"], "contentEncoding": "base64", "contentMediaType": "image/*"}
    if setting.kind in ("picture", "mask", "classes", "depth"):
        return picture
    if setting.kind == "controls":
        described = json_type(setting.hint)
        described["items"]["properties"]["image"] = picture
        return described
    if setting.kind == "boxes":
        return {"type": ["array", "null"], "items": {"type": "object"}}
    return json_type(setting.hint)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """By paths, without tables inside."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in TABLES and isinstance(value, Mapping):
            entries = {find_setting(f"{name}.{inner}").path: entry for inner, entry in value.items()}
        elif name in TABLES and (value is None or is_dataclass(value)):
            entries = {name: value}
        else:
            entries = {find_setting(name).path: value}
        if twice := flat.keys() & entries.keys():
            raise InputError(f"{min(twice)} is given twice")
        flat |= entries
    return flat


def _with(request: Request, setting: Setting, value: Any) -> Request:
    outer, inner = setting.outer, setting.inner
    if not inner:
        return replace(request, **{outer: from_plain(setting.hint, value, setting.path)})
    value = from_plain(setting.hint, value, setting.path)
    before = getattr(request, outer)
    if outer in OPEN:
        entries = {**before, inner: value}
        return replace(request, **{outer: {k: v for k, v in entries.items() if v is not None}})
    holder = inner_class(outer)() if before is None else before
    return replace(request, **{outer: replace(holder, **{inner: value})})


def _holds(request: Request, path: str) -> bool:
    outer, _, inner = path.partition(".")
    held = getattr(request, outer)
    return inner in held if outer in OPEN else held is not None
