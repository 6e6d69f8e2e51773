"""Jobs and pictures in a database that outlives the process: SQLite in the server's folder.

Every change is on the disk before the call returns, so that what a client was told holds after any end of the process.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom.errors import InputError
from darkroom.serve.jobs import Job, PictureRecord, State

__all__ = ["Store", "UsedKey"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, model TEXT NOT NULL, request TEXT NOT NULL, images TEXT NOT NULL,
    count INTEGER NOT NULL, priority INTEGER NOT NULL, deadline REAL, exact INTEGER NOT NULL, key TEXT,
    state TEXT NOT NULL, place REAL NOT NULL, created REAL NOT NULL, started REAL, finished REAL,
    error TEXT, code TEXT, UNIQUE (client, key)
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, id);
CREATE TABLE IF NOT EXISTS pictures (
    id TEXT PRIMARY KEY, job TEXT NOT NULL, number INTEGER NOT NULL, model TEXT NOT NULL, model_hash TEXT NOT NULL,
    request TEXT NOT NULL, images TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    bytes INTEGER NOT NULL, created REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS pictures_by_job ON pictures (job, number);
"""
JOB = "id client model request images count priority deadline exact key state place created started finished error code"
PICTURE = "job number model model_hash request images width height bytes created"


class UsedKey(InputError):
    """An idempotency key came again with another content."""


class Store:
    """Jobs and the records of pictures in the file `path`. May be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            self._database.row_factory = sqlite3.Row
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise InputError(f"the jobs in {path} cannot be opened: {error}") from None

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def add(self, job: Job) -> Job:
        """`job` at the end of the queue; of a key that its client has used, the job of that time.

        `UsedKey` if that one asked for something else.
        """
        with self._transaction() as run:
            if job.key is not None:
                rows = run("SELECT * FROM jobs WHERE client = ? AND key = ?", (job.client, job.key))
                if rows:
                    former = _job(rows[0])
                    if former.content != job.content:
                        raise UsedKey(f"the idempotency key {job.key!r} was used for another request")
                    return former
            last = run("SELECT MAX(place) AS place FROM jobs", ())[0]["place"]
            job = replace(job, place=(last or 0.0) + 1)
            columns = JOB.split()
            values = [_plain(getattr(job, c)) for c in columns]
            run(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({_marks(columns)})", values)
        return job

    def job(self, id: str) -> Job | None:
        rows = self._run("SELECT * FROM jobs WHERE id = ?", (id,))
        return _job(rows[0]) if rows else None

    def keyed(self, client: str, key: str) -> Job | None:
        """The job that a client submitted under that idempotency key."""
        rows = self._run("SELECT * FROM jobs WHERE client = ? AND key = ?", (client, key))
        return _job(rows[0]) if rows else None

    def jobs(self, states: Sequence[State] = (), limit: int = 100, before: str | None = None) -> list[Job]:
        """The newest first, at most `limit`, older than the job `before`."""
        where, values = ["1 = 1"], list[Any]()
        if states:
            where.append(f"state IN ({_marks(states)})")
            values += states
        if before is not None:
            where.append("id < ?")
            values.append(before)
        sql = f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"
        return [_job(row) for row in self._run(sql, (*values, limit))]

    def unfinished(self) -> list[Job]:
        """Those that are queued or were running when the process ended, in the order of the queue."""
        sql = "SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY priority DESC, place"
        return [_job(row) for row in self._run(sql, ())]

    def change(self, job: Job, **changes: Any) -> Job:
        """`job` with `changes` to its fields, kept."""
        names = ", ".join(f"{name} = ?" for name in changes)
        self._run(f"UPDATE jobs SET {names} WHERE id = ?", (*map(_plain, changes.values()), job.id))
        return replace(job, **changes)

    def add_picture(self, picture: PictureRecord) -> None:
        """Once; a picture that is there already stays."""
        columns = ["id", *PICTURE.split()]
        values = [_plain(getattr(picture, c)) for c in columns]
        sql = f"INSERT INTO pictures ({', '.join(columns)}) VALUES ({_marks(columns)}) ON CONFLICT (id) DO NOTHING"
        self._run(sql, values)

    def picture(self, id: str) -> PictureRecord | None:
        rows = self._run("SELECT * FROM pictures WHERE id = ?", (id,))
        return _picture(rows[0]) if rows else None

    def pictures_of(self, job: str) -> list[PictureRecord]:
        rows = self._run("SELECT * FROM pictures WHERE job = ? ORDER BY number", (job,))
        return [_picture(row) for row in rows]

    def pictures(self, limit: int = 100, before: str | None = None) -> list[PictureRecord]:
        """The newest first, at most `limit`, older than the picture `before`."""
        where, values = ("WHERE id < ?", [before]) if before is not None else ("", [])
        rows = self._run(f"SELECT * FROM pictures {where} ORDER BY id DESC LIMIT ?", (*values, limit))
        return [_picture(row) for row in rows]

    def forget(self, *, pictures_before: float = 0.0, bytes_at_most: int | None = None) -> list[str]:
        """Take the records of pictures made before that time, and of the oldest until the others have at most
        `bytes_at_most`; the ids of what was taken."""
        gone: list[str] = []
        with self._transaction() as run:
            rows = run("SELECT id, bytes, created FROM pictures ORDER BY id DESC", ())
            total = 0
            for row in rows:
                total += row["bytes"]
                if row["created"] < pictures_before or (bytes_at_most is not None and total > bytes_at_most):
                    gone.append(row["id"])
            for id in gone:
                run("DELETE FROM pictures WHERE id = ?", (id,))
        return gone

    def forget_jobs(self, finished_before: float) -> int:
        """Take the records of jobs that were over before that time and of which no picture is left."""
        sql = (
            "DELETE FROM jobs WHERE finished < ? AND state IN ('done', 'failed', 'cancelled') "
            "AND id NOT IN (SELECT job FROM pictures) RETURNING id"
        )
        return len(self._run(sql, (min(finished_before, time.time()),)))

    def used_uploads(self) -> set[str]:
        """The ids of uploads that a job or a picture names."""
        rows = self._run("SELECT images FROM jobs UNION SELECT images FROM pictures", ())
        return {id for row in rows for id in json.loads(row["images"]).values()}

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state that some are in."""
        return {r["state"]: r["n"] for r in self._run("SELECT state, COUNT(*) AS n FROM jobs GROUP BY state", ())}

    def _run(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield lambda sql, values: self._database.execute(sql, values).fetchall()
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _plain(value: Any) -> Any:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, Mapping) else value


def _job(row: Mapping[str, Any] | sqlite3.Row) -> Job:
    values: dict[str, Any] = {name: row[name] for name in JOB.split()}
    values |= {"exact": bool(row["exact"]), **_tables(row)}
    return Job(**values)


def _picture(row: Mapping[str, Any] | sqlite3.Row) -> PictureRecord:
    return PictureRecord(**({name: row[name] for name in PICTURE.split()} | _tables(row)))


def _tables(row: Mapping[str, Any] | sqlite3.Row) -> dict[str, Any]:
    return {name: json.loads(row[name]) for name in ("request", "images")}
