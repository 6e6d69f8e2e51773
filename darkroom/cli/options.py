"""Options of a command from dataclasses and from the table of settings, so that no function has dozens of parameters.

A field `name: Annotated[type, typer.Option(...)] = default` of a dataclass is one option of every command that takes
the dataclass; `Also` beside it names flags that are understood and not shown, `Preferred` a key of config.toml that
takes the default's place.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from darkroom.errors import InputError
from darkroom.names import names_of
from darkroom.preferences import read_preferences
from darkroom.requests.settings import DRAWING, Setting

__all__ = ["Also", "Panels", "Preferred", "with_options"]

NAMED = {
    "sampler": "sampler",
    "schedule": "schedule",
    "seed_mode": "seed mode",
    "prompt_syntax": "prompt syntax",
    "emphasis": "emphasis",
}
FIRST = ("Arguments", DRAWING)  # panels; options without one come last
TYPES = {int: "INTEGER", float: "NUMBER", str: "TEXT"}
FILES = {"picture": "FILE", "mask": "FILE", "classes": "FILE", "depth": "FILE", "boxes": "FILE"}


@dataclass(frozen=True)
class Also:
    """More flags of an option, as other tools or former versions have them."""

    flags: tuple[str, ...]

    def __init__(self, *flags: str) -> None:
        object.__setattr__(self, "flags", flags)


@dataclass(frozen=True)
class Preferred:
    """The key of `Preferences` that is taken where nothing is said."""

    key: str


class Panels(TyperCommand):
    """Plain help in which options stand under the heading of their panel and nothing is cut."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            usual = "Arguments" if param.param_type_name == "argument" else "Options"
            if (record := param.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for name, records in sorted(sections.items(), key=lambda item: (item[0] not in FIRST, item[0] == "Options")):
            with formatter.section(name):
                formatter.write_dl(records)


def with_options(function: Callable[..., None], *groups: type, settings: Sequence[Setting] = ()) -> Callable[..., None]:
    """What typer takes for `function(*instances of the groups, said)`.

    `said` are the values of `settings` that were given, by path; read and typed, but not checked against each other.
    """
    parameters, places = _group_parameters(groups)
    options, said = _setting_parameters(settings)

    def command(**values: Any) -> None:
        made = []
        for group in groups:
            mine = [p for p in places if p.group is group]
            said_here = {p.field: _one(values, p.names, p.flag) for p in mine if _is_said(values, p.names)}
            made.append(group(**{**_preferred(mine), **said_here}))
        function(*made, *([_read(values, said)] if settings else []))

    parameters = [*options, *parameters]
    command.__doc__, command.__name__ = function.__doc__, function.__name__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


@dataclass(frozen=True)
class _Place:
    """Where the value of a field comes from."""

    group: type
    field: str
    flag: str
    names: tuple[str, ...]  # of the parameters that set it, the shown one first
    preferred: str | None = None  # the key of config.toml


def _group_parameters(groups: Sequence[type]) -> tuple[list[inspect.Parameter], list[_Place]]:
    parameters: list[inspect.Parameter] = []
    places: list[_Place] = []
    for group in groups:
        hints = typing.get_type_hints(group, include_extras=True)
        for field in fields(group):
            kind, info, *more = typing.get_args(hints[field.name])
            name = f"{group.__name__.lower()}_{field.name}"
            default = None if field.default is MISSING else field.default
            preferred = next((m.key for m in more if isinstance(m, Preferred)), None)
            if preferred is not None:
                kind, default = _optional(kind), None
            parameters.append(_parameter(name, Annotated[kind, info], default))
            names = [name]
            for also in (m for m in more if isinstance(m, Also)):
                names.append(f"{name}_also")
                hidden = Annotated[_optional(kind), typer.Option(*also.flags, hidden=True)]
                parameters.append(_parameter(names[-1], hidden, None))
            flag = next((d for d in (info.default, *(info.param_decls or ())) if isinstance(d, str)), field.name)
            places.append(_Place(group, field.name, flag, tuple(names), preferred))
    return parameters, places


def _preferred(places: Sequence[_Place]) -> dict[str, Any]:
    """What config.toml says in the place of defaults, as the fields hold it."""
    preferred = [p for p in places if p.preferred is not None]
    if not preferred:
        return {}
    read = read_preferences()
    found = {p.field: (type(getattr(p.group, p.field)), getattr(read, p.preferred or "")) for p in preferred}
    return {name: str(value) if kind is str else Path(value) for name, (kind, value) in found.items()}


def _setting_parameters(settings: Sequence[Setting]) -> tuple[list[inspect.Parameter], dict[str, Setting]]:
    """All are texts on the line, and None where nothing is said."""
    parameters: list[inspect.Parameter] = []
    said: dict[str, Setting] = {}
    for setting in settings:
        name = f"set_{setting.path.replace('.', '_')}"
        kind: Any = str
        flags, aliases = setting.flags, tuple(a for a in setting.aliases if a.startswith("-"))
        if setting.hint is bool:
            kind, flags = bool, (*flags[:-1], f"{flags[-1]}/--no-{flags[-1].removeprefix('--')}")
        kind = list[kind] if setting.repeats else kind
        for n, declared, hidden in ((name, flags, False), (f"{name}_also", aliases, True)):
            if declared:
                option = typer.Option(
                    *declared,
                    help=setting.help,
                    metavar=_metavar(setting),
                    rich_help_panel=setting.panel,
                    hidden=hidden,
                    autocompletion=_completion(setting.path),
                )
                parameters.append(_parameter(n, Annotated[kind | None, option], None))
                said[n] = setting
    return parameters, said


def _completion(path: str) -> Callable[[str], list[str]] | None:
    """What offers the shell the names that the setting takes, if it takes names."""
    sort = NAMED.get(path)
    if sort is None:
        return None
    return lambda incomplete: [n for n in names_of(sort) if n.lower().startswith(incomplete.lower())]


def _metavar(setting: Setting) -> str | None:
    if setting.metavar is not None or setting.hint is bool:
        return setting.metavar
    if setting.kind in FILES:
        return FILES[setting.kind]
    kinds = [k for k in typing.get_args(setting.hint) or (setting.hint,) if k is not type(None)]
    if typing.get_origin(setting.hint) is typing.Literal:
        return "|".join(kinds)
    return TYPES.get(kinds[0], "VALUE")


def _read(values: Mapping[str, Any], said: Mapping[str, Setting]) -> dict[str, Any]:
    """The settings that were given, by path."""
    result: dict[str, Any] = {}
    for name, setting in said.items():
        value = values[name]
        if value is None or value == []:
            continue
        flag = setting.flags[-1]
        if setting.kind == "options":
            value = {**result.get(setting.path, {}), **dict(setting.read(text) for text in value)}
        elif setting.repeats:
            value = (*result.get(setting.path, ()), *(setting.read(text) for text in value))
        elif setting.path in result:
            raise InputError(f"{flag} is given twice")
        elif isinstance(value, str):
            value = setting.read(value, flag)
        result[setting.path] = value
    return result


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _optional(kind: Any) -> Any:
    return kind if type(None) in typing.get_args(kind) else kind | None


def _is_said(values: Mapping[str, Any], names: Sequence[str]) -> bool:
    return any(values[name] is not None for name in names)


def _one(values: Mapping[str, Any], names: Sequence[str], flag: str) -> Any:
    """The value under its shown name or an alias of it; lists are joined."""
    said = [values[name] for name in names if values[name] is not None]
    if isinstance(said[0], list):
        return tuple(entry for entries in said for entry in entries)
    return said[-1]
