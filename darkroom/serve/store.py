"""Jobs and pictures in a database that outlives the process: SQLite in the server's folder, or PostgreSQL by its URL.

What a client is told is on the disk before, so that it holds after any end of the process and of the machine; claims
and beginnings need to outlive the process alone.
Servers that share a store draw a job under a claim: whose lease has run out, because its server is gone or cut off, is
free for the others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom.errors import InputError, printable
from darkroom.serve.database import Database, Schema
from darkroom.serve.jobs import Job, PictureRecord, State, new_id
from darkroom.serve.postgres import Postgres
from darkroom.serve.sqlite import Sqlite

__all__ = ["ADDED", "Store", "UsedKey", "open_store"]

TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, model TEXT NOT NULL, request TEXT NOT NULL, images TEXT NOT NULL,
    count INTEGER NOT NULL, priority INTEGER NOT NULL, deadline DOUBLE PRECISION, exact INTEGER NOT NULL, key TEXT,
    state TEXT NOT NULL, place DOUBLE PRECISION NOT NULL, created DOUBLE PRECISION NOT NULL, started DOUBLE PRECISION,
    finished DOUBLE PRECISION, error TEXT, code TEXT, UNIQUE (client, key)
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, id);
CREATE INDEX IF NOT EXISTS jobs_by_place ON jobs (place);
CREATE TABLE IF NOT EXISTS claims (
    job TEXT PRIMARY KEY, owner TEXT NOT NULL, lease DOUBLE PRECISION NOT NULL, cancelled INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS pictures (
    id TEXT PRIMARY KEY, job TEXT NOT NULL, number INTEGER NOT NULL, model TEXT NOT NULL, model_hash TEXT NOT NULL,
    request TEXT NOT NULL, images TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    bytes BIGINT NOT NULL, created DOUBLE PRECISION NOT NULL, remarks TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX IF NOT EXISTS pictures_by_job ON pictures (job, number);
"""
ADDED = (
    ("jobs", "refiner", "TEXT"),
    ("jobs", "switch_at", "DOUBLE PRECISION NOT NULL DEFAULT 0.8"),
    ("pictures", "remarks", "TEXT NOT NULL DEFAULT '[]'"),
)
JOB = (
    "id client model request images count priority deadline exact key refiner switch_at "
    "state place created started finished error code"
)
PICTURE = "job number model model_hash request images width height bytes remarks created"
NEEDED = {"jobs": JOB, "claims": "job owner lease cancelled", "pictures": f"id {PICTURE}"}
PROBES = tuple(f"SELECT {', '.join(columns.split())} FROM {table} LIMIT 0" for table, columns in NEEDED.items())
SCHEMA = Schema(TABLES, ADDED, PROBES)
UNFINISHED = "state IN ('queued', 'running')"


class UsedKey(InputError):
    """An idempotency key came again with another content."""


def open_store(place: Path | str, lease: float = 15.0) -> Store:
    """The store in a file, or at a URL that begins with `postgresql://`. `InputError` if it cannot be opened."""
    if isinstance(place, Path):
        return Store(Sqlite(place, SCHEMA), lease)
    if not place.startswith(("postgresql://", "postgres://")):
        raise InputError("the store is no URL that begins with postgresql://")
    return Store(Postgres(place, SCHEMA), lease)


class Store:
    """Jobs and the records of pictures in `database`. May be called from any thread.

    Claims of this server last for `lease` seconds, unless they are renewed.
    """

    def __init__(self, database: Database, lease: float = 15.0) -> None:
        self.database, self.lease = database, lease
        self.owner = new_id()
        self._run = database.run
        if not database.shared:  # what an earlier process has claimed it draws no more
            self._run("UPDATE claims SET lease = 0")

    def close(self) -> None:
        self.database.close()

    def add(self, job: Job) -> Job:
        """`job` at the end of the queue; of a key that its client has used, the job of that time.

        `UsedKey` if that one asked for something else.
        """
        columns = JOB.split()
        marks = ["(SELECT COALESCE(MAX(place), 0) + 1 FROM jobs)" if c == "place" else "?" for c in columns]
        values = [_plain(getattr(job, c)) for c in columns if c != "place"]
        sql = f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join(marks)}) ON CONFLICT DO NOTHING RETURNING *"
        if rows := self._run(sql, values):
            return _job(rows[0])
        former = self.job(job.id) if job.key is None else self.keyed(job.client, job.key)
        assert former is not None, "jobs in conflict are there"
        if former.content != job.content:
            raise UsedKey(f"the idempotency key {job.key!r} was used for another request")
        return former

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
        """Those that are queued or running, on any server, in the order of the queue."""
        sql = f"SELECT * FROM jobs WHERE {UNFINISHED} ORDER BY priority DESC, place, id"
        return [_job(row) for row in self._run(sql)]

    def free(self) -> list[Job]:
        """The unfinished ones that no other server holds, in the order of the queue."""
        held = f"SELECT job FROM claims WHERE owner <> ? AND lease > {self.database.now}"
        sql = f"SELECT * FROM jobs WHERE {UNFINISHED} AND id NOT IN ({held}) ORDER BY priority DESC, place, id"
        return [_job(row) for row in self._run(sql, (self.owner,))]

    def claim(self, id: str) -> tuple[Job, bool] | None:
        """An unfinished job as it is now, for this server to draw and to end, and whether somebody has asked for its
        end; None where another server has it."""
        now = self.database.now
        sql = (
            f"INSERT INTO claims (job, owner, lease) VALUES (?, ?, {now} + ?) ON CONFLICT (job) DO UPDATE "
            "SET owner = excluded.owner, lease = excluded.lease "
            f"WHERE claims.owner = excluded.owner OR claims.lease < {now} RETURNING job, cancelled"
        )
        rows = self._run(sql, (id, self.owner, self.lease), lasting=False)
        if not rows:
            return None
        job = self.job(id)
        if job is None or job.is_over:  # before the claim
            self._release(id)
            return None
        return job, bool(rows[0]["cancelled"])

    def renew(self) -> dict[str, bool]:
        """The jobs that this server holds still, for another lease, with whether somebody has asked for their end."""
        sql = f"UPDATE claims SET lease = {self.database.now} + ? WHERE owner = ? RETURNING job, cancelled"
        return {row["job"]: bool(row["cancelled"]) for row in self._run(sql, (self.lease, self.owner), lasting=False)}

    def ask_cancel(self, id: str) -> None:
        """Let the server that holds the job, or that will, know that it is to end."""
        sql = (
            "INSERT INTO claims (job, owner, lease, cancelled) "
            f"SELECT id, '', 0, 1 FROM jobs WHERE id = ? AND {UNFINISHED} ON CONFLICT (job) DO UPDATE SET cancelled = 1"
        )
        self._run(sql, (id,))

    def finish(self, job: Job, state: State, error: str | None = None, code: str | None = None) -> Job | None:
        """`job` over, and its claim gone; None where another server has taken it over."""
        said = None if error is None else printable(error, 2000)  # it may quote what no database holds
        values = (state, time.time(), said, code, job.id, job.id, self.owner)
        sql = (
            "UPDATE jobs SET state = ?, finished = ?, error = ?, code = ? WHERE id = ? "
            "AND EXISTS (SELECT 1 FROM claims WHERE job = ? AND owner = ?) RETURNING *"
        )
        rows = self._run(sql, values)
        self._release(job.id)
        return _job(rows[0]) if rows else None

    def release_all(self) -> None:
        """Let the other servers have what this one holds, at once."""
        self._run("DELETE FROM claims WHERE owner = ? AND cancelled = 0", (self.owner,))
        self._run("UPDATE claims SET lease = 0 WHERE owner = ?", (self.owner,))

    def _release(self, id: str) -> None:
        self._run("DELETE FROM claims WHERE job = ? AND owner = ?", (id, self.owner), lasting=False)

    def start(self, job: Job) -> Job:
        """`job` running from now on."""
        now = time.time()
        self._run("UPDATE jobs SET state = 'running', started = ? WHERE id = ?", (now, job.id), lasting=False)
        return replace(job, state="running", started=now)

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
        sized = "SELECT id, created, SUM(bytes) OVER (ORDER BY id DESC) AS total FROM pictures"
        sql = (
            "DELETE FROM pictures WHERE id IN "
            f"(SELECT id FROM ({sized}) AS sized WHERE created < ? OR total > ?) RETURNING id"
        )
        most = 2**62 if bytes_at_most is None else bytes_at_most
        return [row["id"] for row in self._run(sql, (pictures_before, most))]

    def forget_jobs(self, finished_before: float) -> int:
        """Take the records of jobs that were over before that time and of which no picture is left."""
        sql = (
            "DELETE FROM jobs WHERE finished < ? AND state IN ('done', 'failed', 'cancelled') "
            "AND id NOT IN (SELECT job FROM pictures) RETURNING id"
        )
        return len(self._run(sql, (min(finished_before, time.time()),)))

    def used_uploads(self) -> set[str]:
        """The ids of uploads that a job or a picture names."""
        rows = self._run("SELECT id, images FROM jobs UNION SELECT id, images FROM pictures")
        return {id for row in rows for id in _table(row, "images").values()}

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state that some are in."""
        return {r["state"]: r["n"] for r in self._run("SELECT state, COUNT(*) AS n FROM jobs GROUP BY state")}


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _plain(value: Any) -> Any:
    """As both databases hold it."""
    if isinstance(value, Mapping | tuple):
        return json.dumps(value, separators=(",", ":"))
    return int(value) if isinstance(value, bool) else value


def _job(row: Mapping[str, Any]) -> Job:
    values: dict[str, Any] = {name: row[name] for name in JOB.split()}
    values |= {"exact": bool(row["exact"]), **_tables(row)}
    return Job(**values)


def _picture(row: Mapping[str, Any]) -> PictureRecord:
    values: dict[str, Any] = {name: row[name] for name in PICTURE.split()}
    values |= {"remarks": _sentences(row), **_tables(row)}
    return PictureRecord(**values)


def _tables(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _table(row, name) for name in ("request", "images")}


def _sentences(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The JSON array in the column of remarks."""
    sentences = _parsed(row, "remarks")
    if not isinstance(sentences, list) or not all(isinstance(s, str) for s in sentences):
        raise _damaged(row, "remarks")
    return tuple(sentences)


def _table(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The JSON object in column `name`; that of images holds ids by the paths of settings."""
    table = _parsed(row, name)
    if not isinstance(table, dict) or (name == "images" and not all(isinstance(id, str) for id in table.values())):
        raise _damaged(row, name)
    return table


def _parsed(row: Mapping[str, Any], name: str) -> Any:
    """The JSON in column `name`; None where there is none."""
    try:
        return json.loads(row[name])
    except (ValueError, TypeError, RecursionError):
        return None


def _damaged(row: Mapping[str, Any], name: str) -> InputError:
    return InputError(f"the store is damaged: the {name} of {printable(row['id'])} cannot be read")
