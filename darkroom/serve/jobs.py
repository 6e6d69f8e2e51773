"""What the server keeps of a job and of its pictures, and how both are shown as JSON. No torch."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["OVER", "STATES", "Job", "PictureRecord", "State", "Submission", "new_id", "remarks_of"]

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
OVER: tuple[State, ...] = ("done", "failed", "cancelled")


class _Clock:
    """Nanoseconds since the epoch, never the same twice, never backwards: a job made after another sorts after it."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def tick(self) -> int:
        with self._lock:
            self._last = max(time.time_ns(), self._last + 1)
            return self._last


_clock = _Clock()


def new_id() -> str:
    """Hex digits that sort by the time of making: 64 bits of nanoseconds, then 32 random ones."""
    return f"{_clock.tick():016x}{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Submission:
    """What a client asks for: `count` pictures of one request, their seeds one after another.

    `request`: settings by their paths, as `requests.change.changed` takes them; `images`: ids of uploads by the paths
    of the settings that are pictures. `deadline`: seconds since the epoch by which the job must be done. `exact`: each
    picture computed by itself, to the same bits as alone. `key`: a client's second job of one key is its first one.
    `refiner`: the model that draws on after the share `switch_at` of the schedule.
    """

    model: str
    request: Mapping[str, Any]
    images: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    priority: int = 0  # higher ones first
    deadline: float | None = None
    exact: bool = False
    client: str = ""
    key: str | None = None
    refiner: str | None = None
    switch_at: float = 0.8

    @property
    def models(self) -> tuple[str, ...]:
        """The names of all models that draw it."""
        return (self.model,) if self.refiner is None else (self.model, self.refiner)

    @property
    def content(self) -> tuple[object, ...]:
        """What two submissions of one key must have in common."""
        return (self.model, dict(self.request), dict(self.images), self.count, self.refiner, self.switch_at)


@dataclass(frozen=True)
class Job(Submission):
    """A submission that was accepted. Times are seconds since the epoch."""

    id: str = field(default_factory=new_id)
    state: State = "queued"
    place: float = 0.0  # in the queue: lower ones first among those of one priority
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    error: str | None = None
    code: str | None = None  # of the error

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    def shown(self) -> dict[str, Any]:
        """As JSON, without what only a running server knows."""
        error = None if self.error is None else {"message": self.error, "type": "job_error", "code": self.code}
        return {
            "id": self.id,
            "object": "job",
            "state": self.state,
            "model": self.model,
            "request": dict(self.request),
            "images": dict(self.images),
            "count": self.count,
            "priority": self.priority,
            "deadline": self.deadline,
            "exact": self.exact,
            "refiner": self.refiner,
            "switch_at": self.switch_at,
            "created": self.created,
            "started": self.started,
            "finished": self.finished,
            "error": error,
        }


@dataclass(frozen=True)
class PictureRecord:
    """A finished picture: number `number` of its job. `request`: the settings that repeat it, gaps filled; `remarks`:
    sentences on what was changed, ignored or may not be meant."""

    job: str
    number: int
    model: str
    model_hash: str
    request: Mapping[str, Any]
    images: Mapping[str, str]
    width: int
    height: int
    bytes: int
    remarks: Sequence[str] = ()
    created: float = field(default_factory=time.time)

    @property
    def id(self) -> str:
        """Sorts by the time of the job, then by number."""
        return f"{self.job}-{self.number:04d}"

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.id,
            "job": self.job,
            "url": f"/v1/pictures/{self.id}.png",
            "model": self.model,
            "model_hash": self.model_hash,
            "request": dict(self.request),
            "images": dict(self.images),
            "seed": self.request.get("seed", 0),
            "width": self.width,
            "height": self.height,
            "bytes": self.bytes,
            "remarks": list(self.remarks),
            "created": self.created,
        }


def remarks_of(pictures: Iterable[PictureRecord]) -> list[str]:
    """What is to be said of pictures of one job, each sentence once."""
    return list(dict.fromkeys(remark for picture in pictures for remark in picture.remarks))
