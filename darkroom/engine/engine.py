"""Many pictures at once: each is a run of its own, and what they ask of the network meets in joint calls.

A run is a greenlet: plain code whose `estimate` hands control back here until the answer is there. So all runs live on
one thread, in a definite order, and samplers, guidance and tasks know nothing of each other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from greenlet import error as GreenletError
from torch import Tensor

from darkroom.engine.ask import Ask
from darkroom.engine.batcher import Batcher, Called
from darkroom.engine.costs import Costs
from darkroom.engine.run import Desk, Picture
from darkroom.errors import InputError
from darkroom.types import Step

__all__ = ["Cancelled", "Draw", "Engine", "Ticket"]

Draw = Callable[[Desk], Picture]  # the work of one picture
Listener = Callable[[Step, int], None]  # (step, number of the pass)
Finished = Callable[["Ticket"], None]
T = TypeVar("T")


class Cancelled(InputError):
    """The picture was cancelled before it was finished."""


class Ticket:
    """A picture that is on its way. `steps` are those that it has finished."""

    def __init__(
        self, engine: Engine, draw: Draw, listen: Listener | None = None, finished: Finished | None = None
    ) -> None:
        self._engine, self._draw, self._listen, self._finished = engine, draw, listen, finished
        self._over = threading.Event()
        self.cancelled = False
        self._picture: Picture | None = None
        self._run: greenlet | None = None
        self.ask: Ask | None = None  # what its run waits for …
        self._aside: Future[Any] | None = None  # … or this
        self.error: Exception | None = None
        self.step: Step | None = None  # the last that it has finished

    @property
    def done(self) -> bool:
        return self._over.is_set()

    @property
    def goes_on(self) -> bool:
        """Whether its run can go on without an answer of the network."""
        return self.cancelled or (self._aside is not None and self._aside.done())

    def cancel(self) -> None:
        """End the run before its next step; `result` then raises `Cancelled`. Nothing happens to a finished one."""
        self.cancelled = True
        self._engine.wake()

    def result(self, timeout: float | None = None) -> Picture:
        """The picture; the run's own error where it failed. Works the engine where no thread of its own does.

        `TimeoutError` after `timeout` seconds, which count only where the engine has its thread.
        """
        while not self.done and not self._engine.has_thread:
            self._engine.tick()
        if not self._over.wait(timeout):
            raise TimeoutError(f"the picture was not finished within {timeout} s")
        if self.error is not None:
            raise self.error
        assert self._picture is not None, "a run ends with a picture or an error"
        return self._picture

    # What the run sees of its ticket: its desk.

    def estimate(self, ask: Ask) -> Tensor:
        """The estimates (rows, C, h, w); other runs go on until they are there."""
        if torch.is_grad_enabled():  # the gradient of one run goes through its own call
            return self._engine.batcher.alone(ask)
        self.ask = ask
        return getcurrent().parent.switch()  # type: ignore[union-attr]

    def beside(self, work: Callable[[], T]) -> T:
        """What `work` gives: on a thread beside the calls of the network where the engine has its own, else at once."""
        aside = self._engine.aside
        if aside is None or torch.is_grad_enabled():
            return work()
        self._aside = future = aside.submit(torch.inference_mode()(work))
        future.add_done_callback(lambda _: self._engine.wake())
        getcurrent().parent.switch()  # type: ignore[union-attr]
        self._aside = None
        return future.result()

    def report(self, step: Step, pass_number: int) -> None:
        self.step = step
        if self._listen is not None:
            self._listen(step, pass_number)

    # What the engine does with it.

    def resume(self, answer: Tensor | Exception | None) -> None:
        """Let the run go on with the answer to its ask, until its next ask or its end."""
        if self._run is None:
            self._run = greenlet(self._draw)
        self._run.parent, self.ask = getcurrent(), None
        try:
            if self.cancelled:
                answer = Cancelled("the picture was cancelled")
            if isinstance(answer, Exception):
                value = self._run.throw(answer)
            else:
                value = self._run.switch(answer) if self._run else self._run.switch(self)
        except Exception as error:
            self.error = error
        else:
            if not self._run.dead:
                return
            self._picture = value
        self._end()

    def abandon(self, error: Exception | None = None) -> None:
        """End the run where it stands, with `error` as its own."""
        if self._run is not None and not self._run.dead:
            try:
                self._run.parent = getcurrent()
                self._run.throw(GreenletExit)
            except (GreenletError, ValueError, RuntimeError):
                pass  # of another thread, or the interpreter is ending: it goes with its stack
        if not self.done:
            self.error = error or Cancelled("the engine was closed before the picture was finished")
            self._end()

    def _end(self) -> None:
        self._over.set()
        if self._finished is not None:
            self._finished(self)


class Engine:
    """Draws what is submitted, at most `most` pictures at a time; others wait for their turn in order.

    Submitting and cancelling may be done from any thread. The work is done by whoever calls `tick` (or waits for a
    result), or by the engine's own thread between `start` and `close`: then what runs hand over to be done
    beside (`Ticket.beside`) is done on one more thread, while others go on with their steps.

    `learns`: rows are joined only as far as it has found that to be faster, by the clock; the last bits of pictures
    that are not `exact` then depend on it. Without, all that fits is joined, the same on every run. `called` hears of
    each call of the network, on the thread that does the work.
    """

    def __init__(self, *, most: int = 8, learns: bool = False, called: Called | None = None) -> None:
        self.most = most
        self.batcher = Batcher(Costs() if learns else None, called)
        self._waiting: deque[Ticket] = deque()
        self._running: list[Ticket] = []  # those that asked first come first
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self.aside: ThreadPoolExecutor | None = None  # of one thread: parts of a model are used by one run at a time
        self._closing = False

    @property
    def has_thread(self) -> bool:
        return self._thread is not None and self._thread is not threading.current_thread()

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._running)

    def submit(self, draw: Draw, listen: Listener | None = None, finished: Finished | None = None) -> Ticket:
        """`draw` gets its desk and returns its picture. `listen` hears every step, and `finished` the end however it
        comes, on the thread that does the work."""
        ticket = Ticket(self, draw, listen, finished)
        with self._wake:
            if self._closing:
                raise InputError("the engine is closed and takes no more pictures")
            self._waiting.append(ticket)
            self._wake.notify_all()
        return ticket

    def tick(self) -> None:
        """Let runs begin that may, then one call of the network, then all that its answers lead to."""
        with torch.inference_mode():
            while self._waiting and len(self._running) < self.most:
                self._resume(self._waiting.popleft(), None)
            for ticket in [t for t in self._running if t.goes_on]:
                self._running.remove(ticket)
                self._resume(ticket, None)
            asks = {t.ask: t for t in self._running if t.ask is not None}
            if not asks:
                return
            for ask, answer in self.batcher.call(list(asks)):
                ticket = asks[ask]
                self._running.remove(ticket)
                self._resume(ticket, answer)

    def _resume(self, ticket: Ticket, answer: Tensor | Exception | None) -> None:
        try:
            ticket.resume(answer)
        except BaseException:  # an interrupt: the engine stays whole for those that go on
            ticket.abandon()
            raise
        if not ticket.done:
            self._running.append(ticket)

    def start(self) -> Engine:
        """Work on threads of its own until `close`."""
        self.aside = ThreadPoolExecutor(1, thread_name_prefix="darkroom aside")
        self._thread = threading.Thread(target=self._work, name="darkroom engine", daemon=True)
        self._thread.start()
        return self

    def wake(self) -> None:
        """Let the thread look at what it can go on with."""
        with self._wake:
            self._wake.notify_all()

    def _has_work(self) -> bool:
        begins = bool(self._waiting) and len(self._running) < self.most
        return begins or any(t.ask is not None or t.goes_on for t in self._running)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._has_work() or self._closing)
                if self._closing:
                    break
            try:
                self.tick()
            except Exception as error:  # a fault of the engine itself: those under way end with it, the rest goes on
                for ticket in self._running:
                    ticket.abandon(error)
                self._running.clear()
        self._abandon_all()

    def close(self) -> None:
        """End what runs, and what waits; their tickets say so."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self.has_thread:
            assert self._thread is not None
            self._thread.join()
        else:
            self._abandon_all()
        if self.aside is not None:
            self.aside.shutdown(cancel_futures=True)

    def _abandon_all(self) -> None:
        with torch.inference_mode():
            for ticket in [*self._running, *self._waiting]:
                ticket.abandon()
        self._running.clear()
        self._waiting.clear()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
