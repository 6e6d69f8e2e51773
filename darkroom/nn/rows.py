"""Whose the rows of a batch are, where several runs share a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["shares"]

T = TypeVar("T")


def shares(rows: Sequence[tuple[int, T | None]]) -> Iterator[tuple[slice, T]]:
    """(Its rows, what it brings) of every run that brings something; `rows` tells how many rows each has, in order."""
    first = 0
    for count, brought in rows:
        if brought is not None:
            yield slice(first, first + count), brought
        first += count
