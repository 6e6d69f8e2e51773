"""What a disk that takes no more means for a server: one sentence without its paths, and no fault of the client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from darkroom.errors import InputError

__all__ = ["Unkept", "keeping"]


class Unkept(Exception):
    """The server could not keep something: its disk is full, say. Nothing of it is left half-written."""


@contextmanager
def keeping(what: str) -> Iterator[None]:
    """Around the writing of a file alone; raises `Unkept`, which says why and not where."""
    try:
        yield
    except InputError as error:
        raise Unkept(f"{what} could not be kept: {str(error).rpartition(': ')[2]}") from error
    except OSError as error:
        raise Unkept(f"{what} could not be kept: {error.strerror or type(error).__name__}") from error
