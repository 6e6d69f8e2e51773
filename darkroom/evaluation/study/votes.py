"""What was shown and what was answered, in SQLite: nothing that a voter has said is lost when the process dies."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.errors import InputError, printable

__all__ = ["ANSWERS", "PERSON", "Trial", "Vote", "Votes"]

ANSWERS = ("left", "right", "tie")
PERSON = "person"
COLUMNS = ("id", "kind", "question", "item", "left", "right", "rater", "voter", "answer", "seconds", "answered")
NUMBER = (int, float, type(None))
KINDS = (int, str, str, int, int, int, str, str, (str, type(None)), NUMBER, NUMBER)
SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    id INTEGER PRIMARY KEY, rater TEXT NOT NULL, voter TEXT NOT NULL, kind TEXT NOT NULL, question TEXT NOT NULL,
    item INTEGER NOT NULL, left INTEGER NOT NULL, right INTEGER NOT NULL, shown REAL NOT NULL,
    answer TEXT, seconds REAL, answered REAL
);
CREATE INDEX IF NOT EXISTS of_rater ON trials (rater, id);
"""


@dataclass(frozen=True)
class Trial:
    """Two pictures and a question. `kind`: "vote", "attention" (one side is damaged), or "repeat" (seen before).

    `left`, `right`: candidates by their numbers, or `DAMAGED`.
    """

    kind: str
    question: str
    item: int
    left: int
    right: int

    @property
    def pair(self) -> tuple[int, int]:
        """The two, the lower number first."""
        return min(self.left, self.right), max(self.left, self.right)


@dataclass(frozen=True)
class Vote:
    """A trial with who saw it and what was answered: one of ANSWERS, or None so far.

    `rater`: a person's browser or a machine. `voter`: what it is, `PERSON` or the machine's name.
    """

    id: int
    trial: Trial
    rater: str
    voter: str
    answer: str | None
    seconds: float | None
    answered: float | None

    @property
    def winner(self) -> int | None:
        """The candidate preferred; None for a tie."""
        return {"left": self.trial.left, "right": self.trial.right}.get(self.answer or "")


class Votes:
    """The file of a study's votes; may be used from several threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.RLock()
        try:
            self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.executescript(SCHEMA)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be used for votes: {error}") from None

    def __enter__(self) -> Votes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._base.close()

    def show(self, rater: str, trial: Trial, voter: str = PERSON) -> Vote:
        """Note that `rater` is shown `trial`."""
        with self._lock:
            row = (rater, voter, trial.kind, trial.question, trial.item, trial.left, trial.right, time.time())
            said = "rater, voter, kind, question, item, left, right, shown"
            cursor = self._changed(f"INSERT INTO trials ({said}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)
            return Vote(int(cursor.lastrowid or 0), trial, rater, voter, None, None, None)

    def answer(self, vote: int, rater: str, answer: str, seconds: float | None = None) -> None:
        """Note the answer, in place of a former one. `InputError` if `rater` was not shown it."""
        if answer not in ANSWERS:
            raise InputError(f"unknown answer {answer!r}; known are: {', '.join(ANSWERS)}")
        with self._lock:
            change = "UPDATE trials SET answer = ?, seconds = ?, answered = ? WHERE id = ? AND rater = ?"
            if abs(vote) >= 1 << 63 or not self._changed(change, answer, seconds, time.time(), vote, rater).rowcount:
                raise InputError(f"pair {printable(vote)} was not shown to this voter")

    def _changed(self, statement: str, *values: object) -> sqlite3.Cursor:
        try:
            return self._base.execute(statement, values)
        except sqlite3.Error as error:
            raise InputError(f"the votes in {self._path} cannot be written: {error}") from None

    def of(self, rater: str) -> list[Vote]:
        """All that `rater` was shown, in order."""
        return list(self._read("WHERE rater = ? ORDER BY id", rater))

    def all(self) -> list[Vote]:
        """All answered trials, in order."""
        return list(self._read("WHERE answer IS NOT NULL ORDER BY id"))

    def shown(self) -> list[Vote]:
        """All trials, answered or not."""
        return list(self._read("ORDER BY id"))

    @property
    def lock(self) -> threading.RLock:
        """Held while a trial is chosen and noted, so that two voters do not get the same turn."""
        return self._lock

    def _read(self, where: str, *values: object) -> Iterator[Vote]:
        columns = ", ".join(COLUMNS)
        try:
            with self._lock:
                rows = self._base.execute(f"SELECT {columns} FROM trials {where}", values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # also a message that quotes what is there
            raise InputError(f"the votes in {self._path} cannot be read: {error}") from None
        return (self._vote(row) for row in rows)

    def _vote(self, row: tuple[Any, ...]) -> Vote:
        """SQLite keeps values of any kind in any column: a file that others wrote may hold anything."""
        for value, kinds, name in zip(row, KINDS, COLUMNS, strict=True):
            if not isinstance(value, kinds):
                raise InputError(
                    f"the votes in {self._path} are damaged: {name} of pair {row[0]} is {printable(value)}"
                )
        if row[8] not in (*ANSWERS, None):
            raise InputError(
                f"the votes in {self._path} are damaged: the answer to pair {row[0]} is {printable(row[8])}"
            )
        return Vote(row[0], Trial(*row[1:6]), *row[6:])
