"""Name tables that answer an unknown name with the known ones, nearest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Generic, TypeVar

from darkroom.errors import InputError

__all__ = ["Registry", "nearest", "plain_spelling"]

T = TypeVar("T")


def nearest(name: str, known: list[str]) -> list[str]:
    """`known`, most similar to `name` first."""
    said = plain_spelling(name)
    return sorted(known, key=lambda k: -SequenceMatcher(None, said, plain_spelling(k)).ratio())


def plain_spelling(name: str) -> str:
    """`name` in small letters, with a hyphen for each `_` and blank."""
    return name.lower().replace("_", "-").replace(" ", "-")


class Registry(Mapping[str, T], Generic[T]):
    """A table of named things of one sort (samplers, systems, kinds …).

    Names that `spelling` makes equal are the same; usually case is ignored, and `_`, `-` and blank are one character.
    Aliases share one entry. `registry["unknown"]` raises `InputError` that lists the known names, nearest first.
    """

    def __init__(self, sort: str, spelling: Callable[[str], str] = plain_spelling) -> None:
        self.sort = sort  # what an entry is called in error messages: "sampler"
        self.spelling = spelling
        self._entries: dict[str, T] = {}
        self._names: dict[str, str] = {}  # one spelling of a name or alias -> name
        self._aliases: dict[str, tuple[str, ...]] = {}

    def add(self, name: str, entry: T, *aliases: str) -> T:
        """Register `entry` under `name` and `aliases`; returns it, so that it can be used inline."""
        for alias in (name, *aliases):
            if self._names.get(self.spelling(alias), name) != name:
                raise ValueError(f"{self.sort} {alias!r} is registered twice")
            self._names[self.spelling(alias)] = name
        self._entries[name], self._aliases[name] = entry, aliases
        return entry

    def name(self, name: str) -> str:
        """The canonical spelling of `name`; `InputError` when unknown."""
        found = self._names.get(self.spelling(name))
        if found is None:
            raise InputError(
                f"unknown {self.sort} {name!r}; known are: {', '.join(nearest(name, list(self._entries)))}"
            )
        return found

    def aliases(self, name: str) -> list[str]:
        """Other names of the entry `name`, as they were given."""
        return list(self._aliases[name])

    def __getitem__(self, name: str) -> T:
        return self._entries[self.name(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.spelling(name) in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
