"""The database of a single server: SQLite in a file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkroom.errors import InputError
from darkroom.serve.database import Schema, Unreachable

__all__ = ["Sqlite"]

# What a full, failing or missing disk gives; it may pass.
WITHOUT_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


class Sqlite:
    """The file `path`, with what of `schema` is missing made. `InputError` if it cannot be opened."""

    shared = False
    now = "((julianday('now') - 2440587.5) * 86400.0)"

    def __init__(self, path: Path, schema: Schema) -> None:
        self._path, self._lock = path, threading.Lock()
        self._waits: bool | None = None
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._connection.row_factory = sqlite3.Row
            self._connection.text_factory = _text
            self._connection.execute("PRAGMA journal_mode = WAL")
            if (found := self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            self._connection.executescript(schema.tables)
            for table, column, kind in schema.added:
                if column not in {row["name"] for row in self._connection.execute(f"PRAGMA table_info({table})")}:
                    self._connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
            for probe in schema.probes:
                self._connection.execute(probe)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise InputError(f"the jobs in {path} cannot be opened: {error}") from None

    def run(self, sql: str, values: Sequence[Any] = (), *, lasting: bool = True) -> list[Mapping[str, Any]]:
        with self._lock:
            try:
                if lasting is not self._waits:  # whether a commit waits for the disk
                    self._connection.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
                    self._waits = lasting
                return [dict(row) for row in self._connection.execute(sql, values).fetchall()]
            except UnicodeEncodeError:
                raise InputError("a text holds characters that cannot be stored") from None
            except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # also a message that quotes what is there
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in WITHOUT_ROOM:
                    raise Unreachable(f"the jobs cannot be written now: {error}") from None
                if isinstance(error, (sqlite3.OperationalError, sqlite3.IntegrityError)):
                    raise
                raise InputError(f"the jobs in {self._path} are damaged: {error}") from None

    def tell(self, message: str) -> None:
        """Nobody else is there."""

    def heard(self, seconds: float) -> list[str] | None:
        time.sleep(seconds)
        return []

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _text(raw: bytes) -> str:
    """SQLite hands on what stands in the file, whether or not it is UTF-8."""
    return raw.decode(errors="replace")
