"""The jobs that are not over, as one server sees them: its own, and those that wait for any server of the store."""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path

from darkroom.serve.jobs import Job
from darkroom.serve.live import Live
from darkroom.serve.scheduler import Shares
from darkroom.serve.store import Store

__all__ = ["Queue"]

log = logging.getLogger("darkroom.serve")


class Queue:
    """The unfinished jobs of `store` that no other server has claimed; their pictures lie in `folder`.

    May be called from any thread; `changed` is the lock of all of it, and is notified of every change.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.shares = Shares()
        self.changed = threading.Condition()
        self._lives: dict[str, Live] = {}
        self._is_changed = False

    def add(self, job: Job) -> None:
        """Put an accepted job into the queue."""
        with self.changed:
            if job.id in self._lives:
                return
            self.shares.arrive(job.client, {live.job.client for live in self.waiting()})
            self._lives[job.id] = Live(job, deque(range(job.count)))
            self.notify()

    def look_around(self) -> None:
        """Take notice of all that other servers have added, begun, or left."""
        before = self.lives()
        free = {job.id: job for job in self.store.free()}
        with self.changed:
            for live in before:
                if live.mine:
                    continue
                if live.job.id in free:
                    live.job = free[live.job.id]
                else:
                    self.forget(live)
        for job in free.values():
            self.add(job)

    def notice(self, job: Job) -> None:
        """Take notice of one job that another server has added, moved, begun or ended."""
        if job.state == "queued":
            self.add(job)
        with self.changed:
            live = self._lives.get(job.id)
            if live is None or live.mine:
                return
            live.job = job
            if job.state != "queued":
                self.forget(live)

    def keep(self) -> None:
        """Renew the claims of this server; let go of what another one has taken over meanwhile."""
        mine = [live for live in self.lives() if live.mine]
        held = self.store.renew()
        for live in mine:
            if live.job.id not in held and live.job.id in self:
                log.warning("another server has taken the job over", extra={"job": live.job.id})
                self.forget(live)
        for id, cancelled in held.items():
            if cancelled:
                self.cancel(id)

    def own(self, live: Live) -> bool:
        """Whether a job is for this server to draw and to end. One that another has claimed is forgotten here;
        pictures that there are already are not drawn again."""
        if live.mine:
            return True
        claimed = self.store.claim(live.job.id)
        if claimed is None:
            self.forget(live)
            if live.cancelled:
                self.store.ask_cancel(live.job.id)
            return False
        job, cancelled = claimed
        there = {p.number for p in self.store.pictures_of(job.id) if (self.folder / f"{p.id}.png").exists()}
        with self.changed:
            live.job, live.mine = job, True
            live.cancelled = live.cancelled or cancelled
            live.todo = deque(n for n in live.todo if n not in there)
            self.notify()
        return True

    def forget(self, live: Live) -> None:
        """A job that is over, or another server's; what of it is under way ends."""
        with self.changed:
            live.mine = False
            for ticket in live.tickets.values():
                ticket.cancel()
            self._lives.pop(live.job.id, None)

    def cancel(self, id: str) -> bool:
        """End a job of this server, or one that waits; for another's only leave word. Whether it was found here."""
        with self.changed:
            live = self._lives.get(id)
            if live is not None:
                live.cancelled = True
                for ticket in live.tickets.values():
                    ticket.cancel()
                self.notify()
        if live is None:
            self.store.ask_cancel(id)
        return live is not None

    def move(self, id: str, priority: int, place: float) -> bool:
        """Give a job another place; whether it waits here."""
        with self.changed:
            live = self._lives.get(id)
            if live is None or not live.waits:
                return False
            live.job = self.store.change(live.job, priority=priority, place=place)
            self.notify()
        return True

    def spoil(self, live: Live, message: str, code: str) -> None:
        """Let a job end with an error, once what of it is under way has ended."""
        with self.changed:
            live.error = live.error or (message, code)
            for ticket in live.tickets.values():
                ticket.cancel()
            self.notify()

    def __contains__(self, id: str) -> bool:
        with self.changed:
            return id in self._lives

    def live(self, id: str) -> Live | None:
        with self.changed:
            return self._lives.get(id)

    def lives(self) -> list[Live]:
        with self.changed:
            return list(self._lives.values())

    def waiting(self) -> list[Live]:
        """Those of which a picture may begin."""
        return [live for live in self.lives() if live.waits]

    def order(self) -> list[Job]:
        """The jobs that wait, by priority and place."""
        return sorted((live.job for live in self.waiting()), key=lambda job: (-job.priority, job.place, job.id))

    def running(self) -> int:
        """Pictures under way."""
        with self.changed:
            return sum(len(live.tickets) for live in self._lives.values())

    def notify(self) -> None:
        """Have who waits for a change look."""
        with self.changed:
            self._is_changed = True
            self.changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until something has changed since the last call, at most so long."""
        with self.changed:
            self.changed.wait_for(lambda: self._is_changed, seconds)
            self._is_changed = False
