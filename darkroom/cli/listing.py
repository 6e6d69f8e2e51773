"""`--list`: the names that options take, one a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from darkroom.errors import InputError
from darkroom.names import names_of

__all__ = ["Listing"]

KNOWN = ("samplers", "schedules", "systems")


def _show(what: str | None) -> None:
    if what is None:
        return
    if what not in KNOWN:
        raise InputError(f"unknown list {what!r}; known are: {', '.join(KNOWN)}")
    for name in names_of(what[:-1]):
        print(name)
    raise typer.Exit


@dataclass(frozen=True)
class Listing:
    """Answers instead of a run."""

    what: Annotated[
        str | None,
        typer.Option(
            "--list", metavar="|".join(KNOWN), help="Print the names that are known.", is_eager=True, callback=_show
        ),
    ] = None
