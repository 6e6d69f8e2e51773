"""The other servers on the same store: what happens there is told here, and what happens here there.

Each server keeps its claims alive, hears of changes of jobs and of progress, and looks at the whole queue anew after
whatever it may have missed. Pictures in the making are not sent: they are too large for the line.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from darkroom.serve.database import Unreachable
from darkroom.serve.events import Event
from darkroom.serve.queue import Queue
from darkroom.serve.store import Store

__all__ = ["Peers"]

HEAR = 0.5  # seconds that one call listens
PROGRESS_EVERY = 0.5  # seconds between two words on one job
MOST_WAITING = 1000  # words that have not been sent; progress beyond is left out

log = logging.getLogger("darkroom.serve")


class Peers:
    """`changed` is called with the id of a job that changed elsewhere, `progressed` with (id, step, steps)."""

    def __init__(
        self, store: Store, queue: Queue, changed: Callable[[str], None], progressed: Callable[[str, int, int], None]
    ) -> None:
        self.store, self.queue = store, queue
        self.changed, self.progressed = changed, progressed
        self._said: dict[str, float] = {}  # when the progress of a job was last told
        self._waiting = 0
        self._teller = ThreadPoolExecutor(1, thread_name_prefix="darkroom teller")
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="darkroom peers", daemon=True)

    def start(self) -> None:
        if self.store.database.shared:
            self._thread.start()

    def stop(self) -> None:
        """After the worker: give the claims that are left to the others."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join(30)
            try:
                self.store.release_all()
                self.store.database.tell(json.dumps([self.store.owner, "left", ""]))
            except Unreachable as error:
                log.warning("%s; what this server holds is free when its lease is over", error)
        self._teller.shutdown(cancel_futures=True)

    def relay(self, event: Event) -> None:
        """Tell the others of what happened here. It waits for nothing."""
        if event.kind == "job":
            self._said.pop(event.job, None)
            self.tell("job", event.job)
        elif event.kind == "progress" and self._waiting < MOST_WAITING:
            now = time.monotonic()
            if now - self._said.get(event.job, 0.0) >= PROGRESS_EVERY:
                self._said[event.job] = now
                self.tell("progress", event.job, event.data["step"], event.data["steps"])

    def tell(self, kind: str, job: str, *numbers: int) -> None:
        """Send a word to all servers, where there may be others."""
        if not self.store.database.shared or self._closed.is_set():
            return
        self._waiting += 1
        self._teller.submit(self._send, json.dumps([self.store.owner, kind, job, *numbers]))

    def _send(self, message: str) -> None:
        self._waiting -= 1
        try:
            self.store.database.tell(message)
        except Unreachable as error:  # the others look for themselves when the store is back
            log.warning("%s", error)

    # The thread.

    def _work(self) -> None:
        kept = 0.0
        while not self._closed.is_set():
            try:
                heard = self.store.database.heard(HEAR)
                due = time.monotonic() - kept >= self.store.lease / 3
                words = [] if heard is None else [w for w in map(json.loads, heard) if w[0] != self.store.owner]
                if due or any(word[1] == "cancel" for word in words):
                    kept = time.monotonic()
                    self.queue.keep()
                if due or heard is None or any(word[1] == "left" for word in words):
                    self.queue.look_around()
                for word in words:
                    self._take(word)
            except Unreachable as error:
                log.warning("%s", error)
            except Exception:
                log.exception("word from another server was not understood")

    def _take(self, word: list[Any]) -> None:
        _, kind, job, *numbers = word
        if kind == "job":
            self.changed(job)
        elif kind == "progress":
            self.progressed(job, *numbers)
