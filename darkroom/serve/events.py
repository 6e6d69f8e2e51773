"""What happens to jobs, told to everybody who listens: windows of the page, streams of a request, waiting calls.

Told on any thread, heard on the event loop. Changes of state are kept for a while, so that who lost the line hears what
was missed (`Last-Event-ID`); progress and previews are of the moment.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Event", "Events", "Listener"]

KEPT = 2000  # changes of state
WAITING = 500  # events that one listener may be behind before the line is cut
KEEP_ALIVE = 15.0  # seconds without an event

Kind = Literal["job", "progress", "preview", "queue"]
KINDS: tuple[Kind, ...] = ("job", "progress", "preview", "queue")


@dataclass(frozen=True)
class Event:
    """One thing that happened to the job `job`; `queue` events are about no job."""

    kind: Kind
    job: str
    data: dict[str, Any]
    id: str | None = None

    def line(self) -> str:
        """As server-sent events are written."""
        named = "" if self.id is None else f"id: {self.id}\n"
        return f"{named}event: {self.kind}\ndata: {json.dumps(self.data, separators=(',', ':'))}\n\n"


class Listener:
    """Who hears what of `kinds` happens to `job`, or to all jobs."""

    def __init__(self, job: str | None, kinds: Sequence[Kind]) -> None:
        self.job, self.kinds = job, kinds
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def hears(self, kind: Kind, job: str) -> bool:
        return self.job in (None, job) and kind in self.kinds

    def put(self, event: Event) -> None:
        """On the loop. Who is far behind is cut off, and comes back with the id of the last event that arrived."""
        if self.queue.qsize() < WAITING:
            self.queue.put_nowait(event)
        elif self.queue.qsize() == WAITING:
            self.queue.put_nowait(None)


class Events:
    """All listeners of one server. `relay` is called with each event that came about here, for other servers."""

    def __init__(self, relay: Callable[[Event], None] | None = None) -> None:
        self._relay = relay
        self._epoch = secrets.token_hex(4)  # ids of another process mean nothing here
        self._count = 0
        self._kept: deque[tuple[int, Event]] = deque(maxlen=KEPT)
        self._listeners: set[Listener] = set()
        self._lock = threading.Lock()
        self._closed = False

    def tell(self, kind: Kind, job: str, data: dict[str, Any], *, elsewhere: bool = False) -> None:
        """`elsewhere`: it came about on another server."""
        with self._lock:
            id = None
            if kind == "job":
                self._count += 1
                id = f"{self._epoch}-{self._count}"
            event = Event(kind, job, data, id)
            if kind == "job":
                self._kept.append((self._count, event))
            for listener in self._listeners:
                if listener.hears(kind, job):
                    with suppress(RuntimeError):  # its loop has ended
                        listener.loop.call_soon_threadsafe(listener.put, event)
        if self._relay is not None and not elsewhere:
            self._relay(event)

    def heard(self, kind: Kind, job: str) -> bool:
        """Whether anybody hears that of `job`, so that a preview is worth making."""
        with self._lock:
            return any(listener.hears(kind, job) for listener in self._listeners)

    def close(self) -> None:
        """End every stream."""
        with self._lock:
            self._closed = True
            for listener in self._listeners:
                listener.loop.call_soon_threadsafe(listener.queue.put_nowait, None)

    def listening(self, job: str | None = None, last: str | None = None, kinds: Sequence[Kind] = KINDS) -> Listener:
        """A listener that hears from now on; after `last`, the id of an event, first what was missed since. `heard_by`
        gives what it heard and ends it."""
        listener = Listener(job, kinds)
        with self._lock:
            for number, event in self._kept:
                if number > self._after(last) and listener.hears(event.kind, event.job):
                    listener.put(event)
            if self._closed:
                listener.queue.put_nowait(None)
            self._listeners.add(listener)
        return listener

    async def heard_by(self, listener: Listener) -> AsyncIterator[Event | None]:
        """The events of `listener` until the line is cut."""
        try:
            while True:
                try:
                    event = await asyncio.wait_for(listener.queue.get(), KEEP_ALIVE)
                except TimeoutError:
                    yield None
                    continue
                if event is None:
                    return
                yield event
        finally:
            self.drop(listener)

    def drop(self, listener: Listener) -> None:
        """Who hears nothing more."""
        with self._lock:
            self._listeners.discard(listener)

    def _after(self, last: str | None) -> int:
        """The number of the event `last`; without one everything kept is known already."""
        if last is None:
            return self._count
        epoch, _, number = last.partition("-")
        return int(number) if epoch == self._epoch and number.isdigit() else 0
