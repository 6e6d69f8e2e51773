"""Name tables that answer an unknown name with the known ones, nearest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Generic, TypeVar

from darkroom.errors import InputError

__all__ = ["Registry", "nearest"]

T = TypeVar("T")


def nearest(name: str, known: list[str]) -> list[str]:
    """`known`, most similar to `name` first."""
    wanted = _normal(name)
    return sorted(known, key=lambda k: -SequenceMatcher(None, wanted, _normal(k)).ratio())


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")


class Registry(Mapping[str, T], Generic[T]):
    """A table of named things of one sort (samplers, systems, kinds …).

    Lookup ignores case and takes `_`, `-` and blank for the same character; aliases share one entry.
    `registry["unknown"]` raises `InputError` that lists the known names, nearest first.
    """

    def __init__(self, sort: str) -> None:
        self.sort = sort  # what an entry is called in error messages: "sampler"
        self._entries: dict[str, T] = {}
        self._names: dict[str, str] = {}  # normalised name or alias -> name

    def add(self, name: str, entry: T, *aliases: str) -> T:
        """Register `entry` under `name` and `aliases`; returns it, so that it can be used inline."""
        for alias in (name, *aliases):
            if self._names.get(_normal(alias), name) != name:
                raise ValueError(f"{self.sort} {alias!r} is registered twice")
            self._names[_normal(alias)] = name
        self._entries[name] = entry
        return entry

    def name(self, name: str) -> str:
        """The canonical spelling of `name`; `InputError` when unknown."""
        if _normal(name) not in self._names:
            raise InputError(
                f"unknown {self.sort} {name!r}; known are: {', '.join(nearest(name, list(self._entries)))}"
            )
        return self._names[_normal(name)]

    def aliases(self, name: str) -> list[str]:
        """Other names of the entry `name`, in lower case with hyphens."""
        return [alias for alias, own in self._names.items() if own == name and alias != _normal(name)]

    def __getitem__(self, name: str) -> T:
        return self._entries[self.name(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _normal(name) in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
