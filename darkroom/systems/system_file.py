"""Systems by name: those of the catalogue, and those that a file describes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darkroom.config import from_dict, merged, place_of, read_toml, to_dict
from darkroom.errors import InputError
from darkroom.json_file import read_json
from darkroom.registry import Registry
from darkroom.systems.system import FIRST_STAGES, SYSTEMS, System

__all__ = ["find_system", "read_system"]


def find_system(name: str) -> System:
    """The system that `name` means: a name of the catalogue, or a .toml or .json file that describes one."""
    return read_system(Path(name)) if name.endswith((".toml", ".json")) else SYSTEMS[name]


def read_system(path: Path) -> System:
    """The system that the file at `path` describes: every field of `System`, or `base = "NAME"` of the catalogue and
    what differs; `more_embedders` stand behind those of the base. `autoencoder` may be the name of a published first
    stage. Raises `InputError` naming file and key."""
    data: dict[str, Any] = read_json(path) if path.suffix == ".json" else read_toml(path)
    data = data.get("system", data)
    if not isinstance(data, dict):
        raise InputError(f"{path}: system is not a table")
    base = data.pop("base", None)
    more = data.pop("more_embedders", [])
    if not isinstance(more, list):
        raise InputError(f"{path}: more_embedders is {more!r}, a list of tables expected")
    described = merged(to_dict(_named(SYSTEMS, base, path, "base")), data) if base is not None else data
    if more:
        described["embedders"] = [*described.get("embedders", []), *more]
    if isinstance(stage := described.get("autoencoder"), str):
        described["autoencoder"] = to_dict(_named(FIRST_STAGES, stage, path, "autoencoder").autoencoder)
    return from_dict(System, described, str(path) if path.suffix == ".json" else lambda key: place_of([path], (), key))


def _named(table: Registry[Any], name: object, path: Path, key: str) -> Any:
    if not isinstance(name, str):
        raise InputError(f"{path}: {key} is {name!r}, a name expected")
    try:
        return table[name]
    except InputError as error:
        raise InputError(f"{path}: {key}: {error}") from None
