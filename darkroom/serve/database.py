"""What the store asks of a database, whichever it is: statements, a clock, and word from the other servers on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Database", "Schema", "Unreachable"]


@dataclass(frozen=True)
class Schema:
    """The statements that make tables where they are missing, and the columns that tables of earlier versions lack:
    (table, column, type and default). `probes`: statements that fail where others are missing."""

    tables: str
    added: tuple[tuple[str, str, str], ...] = ()
    probes: tuple[str, ...] = ()


class Unreachable(Exception):
    """The database does not answer, or its disk is full. What was asked is done whole or not at all, and may be asked
    again."""


class Database(Protocol):
    """May be called from any thread. Values stand as `?` in statements.

    `shared`: whether other servers may work on it. `now`: its clock in SQL, in seconds since the epoch.
    """

    shared: bool
    now: str

    def run(self, sql: str, values: Sequence[Any] = (), *, lasting: bool = True) -> list[Mapping[str, Any]]:
        """The rows of one statement, whose changes are on the disk when this returns. Those that are not `lasting` may
        go with the machine, not with the process: they need not wait for the disk.

        `InputError` for a text that the database does not hold; `Unreachable`.
        """
        ...

    def tell(self, message: str) -> None:
        """Let the servers on this database know, this one too. Up to 7,000 bytes; `Unreachable`."""
        ...

    def heard(self, seconds: float) -> list[str] | None:
        """What servers told since the last call, after waiting for it up to `seconds`; None where something may have
        been missed."""
        ...

    def close(self) -> None: ...
