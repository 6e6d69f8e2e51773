"""The database of several servers: PostgreSQL, which also carries word from one to the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from darkroom.errors import InputError, printable
from darkroom.serve.database import Schema, Unreachable

if TYPE_CHECKING:
    import psycopg

__all__ = ["Postgres"]

PATIENCE = 10.0  # seconds that a statement waits for a server that restarts
RETRY_EVERY = 0.2
CHANNEL = "darkroom"
SCHEMA_LOCK = 0x6461726B  # so that servers that start together make the tables one after the other
# A peer that is cut off without a word is noticed within these, in seconds (milliseconds for the last).
LINE = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


class Postgres:
    """The database at `url`, with what of `schema` is missing made. `InputError` if it cannot be used."""

    shared = True
    now = "EXTRACT(EPOCH FROM clock_timestamp())::double precision"

    def __init__(self, url: str, schema: Schema) -> None:
        try:
            import psycopg
            from psycopg.conninfo import conninfo_to_dict, make_conninfo
        except ImportError:
            raise InputError(
                "jobs in PostgreSQL need one more package: pip install 'darkroom-diffusion[postgres]'"
            ) from None
        self._lock = threading.Lock()
        self._closed = False
        self._ear: psycopg.Connection[Any] | None = None
        try:
            self._url = make_conninfo("", **(LINE | conninfo_to_dict(url)))
            self._connection = self._connect()
            with self._connection.transaction():
                self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
                self._connection.execute(schema.tables.encode())
                for table, column, kind in schema.added:
                    self._connection.execute(f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {kind}".encode())
                for probe in schema.probes:
                    self._connection.execute(probe.encode())
        except psycopg.Error as error:
            raise InputError(f"the jobs in PostgreSQL cannot be opened: {_said(error)}") from None

    def run(self, sql: str, values: Sequence[Any] = (), *, lasting: bool = True) -> list[Mapping[str, Any]]:
        import psycopg

        query, end = sql.replace("?", "%s").encode(), time.monotonic() + PATIENCE
        with self._lock:
            while True:
                try:
                    if self._connection.closed and not self._closed:
                        self._connection = self._connect()
                    cursor = self._connection.execute(query, values)
                    return [] if cursor.description is None else cursor.fetchall()
                except (psycopg.DataError, UnicodeEncodeError):
                    raise InputError("a text holds characters that cannot be stored") from None
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    self._connection.close()
                    if self._closed or time.monotonic() > end:
                        raise Unreachable(f"PostgreSQL cannot be reached: {_said(error)}") from None
                    time.sleep(RETRY_EVERY)

    def tell(self, message: str) -> None:
        self.run("SELECT pg_notify(?, ?)", (CHANNEL, message))

    def heard(self, seconds: float) -> list[str] | None:
        import psycopg

        try:
            if self._ear is None:
                self._ear = self._connect()
                self._ear.execute(f"LISTEN {CHANNEL}".encode())
                return None
            return [n.payload for n in self._ear.notifies(timeout=seconds, stop_after=1)]
        except (psycopg.OperationalError, psycopg.InterfaceError):
            if self._ear is not None:
                self._ear.close()
            self._ear = None
            time.sleep(seconds)
            return None

    def close(self) -> None:
        self._closed = True
        with self._lock:
            self._connection.close()
        if self._ear is not None:
            self._ear.close()

    def _connect(self) -> psycopg.Connection[Any]:
        import psycopg
        from psycopg.rows import DictRow, dict_row

        return psycopg.Connection[DictRow].connect(self._url, autocommit=True, row_factory=dict_row)


def _said(error: Exception) -> str:
    """In one line."""
    return printable(" ".join(str(error).split()), 300)
