"""The thread that takes jobs from the queue to the engine, and what becomes of their pictures."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom import __version__
from darkroom.errors import InputError
from darkroom.serve.events import Events
from darkroom.serve.intake import Limits, check_plan, plain_settings
from darkroom.serve.jobs import Job, PictureRecord, State
from darkroom.serve.live import Live
from darkroom.serve.metrics import Metrics
from darkroom.serve.residents import Resident, Residents
from darkroom.serve.scheduler import Costs, Shares, in_turn
from darkroom.serve.store import Store
from darkroom.serve.uploads import Uploads

if TYPE_CHECKING:
    from darkroom.engine.engine import Engine, Ticket
    from darkroom.engine.journal import Journal
    from darkroom.requests.plan import Plan
    from darkroom.types import Step

__all__ = ["Worker"]

PREVIEW_EVERY = 0.5  # seconds
LOOK_EVERY = 1.0  # seconds between looks at deadlines

log = logging.getLogger("darkroom.serve")


class Worker:
    """Draws the jobs that it is given, at most `most` pictures at once. Pictures go into `folder`; `tell` lets those
    who listen know of a change of a job.
    """

    def __init__(
        self,
        store: Store,
        events: Events,
        uploads: Uploads,
        residents: Residents,
        limits: Limits,
        folder: Path,
        tell: Callable[[Job], None],
        *,
        most: int = 8,
    ) -> None:
        self.store, self.events, self.uploads, self.residents = store, events, uploads, residents
        self.limits, self.tell, self.most = limits, tell, most
        self.folder, self.journals = folder / "pictures", folder / "journals"
        self.paused = False
        self.shares = Shares()
        self.costs = Costs()
        self.metrics = Metrics()
        self._live: dict[str, Live] = {}
        self._wake = threading.Condition()
        self._changed = False
        self._stopping = self._closed = False
        self._engine: Engine | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="darkroom writer")
        self._previewer = ThreadPoolExecutor(1, thread_name_prefix="darkroom previewer")
        self._thread = threading.Thread(target=self._work, name="darkroom worker", daemon=True)

    # What the server asks for.

    def start(self) -> None:
        """Take up what was left, and begin."""
        for job in self.store.unfinished():
            self.add(job)
        self._thread.start()

    def add(self, job: Job) -> None:
        """Put an accepted job into the queue; pictures of it that there are already are not drawn again."""
        there = {picture.number for picture in self.store.pictures_of(job.id)}
        with self._wake:
            waiting = {live.job.client for live in self._live.values() if live.waits}
            self.shares.arrive(job.client, waiting)
            self._live[job.id] = Live(job, deque(n for n in range(job.count) if n not in there))
            self._notify()

    def cancel(self, id: str) -> bool:
        """End a job; whether it was not over."""
        with self._wake:
            live = self._live.get(id)
            if live is None:
                return False
            live.cancelled = True
            for ticket in live.tickets.values():
                ticket.cancel()
            self._notify()
        return True

    def move(self, id: str, priority: int, place: float) -> bool:
        """Give a job another place in the queue; whether it waits there."""
        with self._wake:
            live = self._live.get(id)
            if live is None or not live.waits:
                return False
            live.job = self.store.change(live.job, priority=priority, place=place)
            self._notify()
        return True

    def pause(self, paused: bool) -> None:
        """Begin no more pictures, or go on."""
        with self._wake:
            self.paused = paused
            self._notify()

    def order(self) -> list[Job]:
        """The jobs that wait, in the order of the queue."""
        with self._wake:
            waiting = [live.job for live in self._live.values() if live.waits]
        return sorted(waiting, key=lambda job: (-job.priority, job.place))

    def progress(self, id: str) -> tuple[int, int | None]:
        """(Steps done, steps in all as far as known) of a job that is not over."""
        with self._wake:
            live = self._live.get(id)
            return (0, None) if live is None else (live.step, live.steps)

    def cost(self, job: Job) -> float:
        """The seconds that a job is expected to take of the machine; 0 before its model has drawn anything."""
        resident = self.residents.there(job.model)
        if resident is None:
            return 0.0
        said, usual = job.request, resident.loaded.model.system.defaults
        pixels = (said.get("width") or usual.width) * (said.get("height") or usual.height)
        with self._wake:
            live = self._live.get(job.id)
            left = job.count if live is None else len(live.todo) + len(live.tickets)
        return left * (self.costs.seconds(job.model, pixels, said.get("steps") or usual.steps) or 0.0)

    def backlog(self) -> float:
        """The seconds that all jobs which are not over are expected to take."""
        with self._wake:
            jobs = [live.job for live in self._live.values()]
        return sum(map(self.cost, jobs))

    def preview(self, id: str) -> bytes | None:
        """What a picture of the job looks like now, as JPEG; None if none is under way."""
        with self._wake:
            live = self._live.get(id)
        return None if live is None else live.look()

    def running(self) -> int:
        """Pictures under way."""
        with self._wake:
            return sum(len(live.tickets) for live in self._live.values())

    def stop(self, seconds: float) -> None:
        """Begin nothing more, give what is under way `seconds`, and end. What is left goes on at the next start."""
        with self._wake:
            self._stopping = True
            self._notify()
            self._wake.wait_for(lambda: not any(live.tickets for live in self._live.values()), seconds)
            self._closed = True
            self._notify()
        if self._thread.ident is not None:
            self._thread.join(30)
        if self._engine is not None:
            self._engine.close()
        self._writer.shutdown()
        self._previewer.shutdown(cancel_futures=True)

    def wake(self) -> None:
        """Look again at what may begin."""
        with self._wake:
            self._notify()

    def _notify(self) -> None:
        self._changed = True
        self._wake.notify_all()

    # The thread.

    def _work(self) -> None:
        from darkroom.engine.engine import Engine  # PyTorch is imported here, beside a page that answers already

        self._engine = Engine(most=self.most).start()
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._changed or self._closed, LOOK_EVERY)
                self._changed = False
                if self._closed:
                    return
            try:
                self._look()
            except Exception:
                log.exception("the worker failed to look at the queue")

    def _look(self) -> None:
        """End what is over, then begin what may."""
        now = time.time()
        for live in list(self._live.values()):
            if live.job.deadline is not None and now > live.job.deadline and live.error is None:
                self._spoil(live, "the job was not done by its deadline", "deadline_exceeded")
            self._settle(live)
        while not self._stopping and not self.paused and self.running() < self.most:
            with self._wake:
                waiting = {live.job.id: live for live in self._live.values() if live.waits}
            order = in_turn((live.job for live in waiting.values()), self.shares.served, now, self.cost)
            if not any(self._begin(waiting[job.id]) for job in order):
                return

    def _begin(self, live: Live) -> bool:
        """The next picture of a job; False where its model is on its way."""
        from darkroom.engine.desks import exact
        from darkroom.engine.journal import Journal, journaled

        job = live.job
        try:
            resident = self.residents.take(job.model)
        except Exception as error:
            self._fail(live, error)
            return True
        if resident is None:
            return False
        try:
            number = live.todo[0]
            if live.request is None:
                live.request = self.uploads.request(job.request, job.images)
            request = replace(live.request, seed=live.request.seed + number)
            plan = resident.pipeline.checked(request)
            check_plan(plan, self.limits)
            resident.pipeline.shelf.of(plan.prompt.loras, resident.loaded.model)
            journal = Journal(self.journals / f"{job.id}-{number:04d}", _key(resident))
            draw = journaled(partial(resident.pipeline.draw, plan), journal)
            draw = exact(draw) if job.exact else draw
            if job.state == "queued":
                self._change(live, state="running", started=time.time())
                self.metrics.queue_time.see(time.time() - job.created)
        except Exception as error:
            self.residents.give_back(resident)
            self._fail(live, error)
            return True
        live.todo.popleft()
        live.steps = job.count * _steps(plan)
        assert self._engine is not None, "made when the thread began"
        began = time.monotonic()
        listen = partial(self._listen, live, resident)
        finished = partial(self._hand_over, live, number, resident, journal, began)
        with self._wake:
            live.tickets[number] = self._engine.submit(draw, listen, finished)
            if live.cancelled:
                live.tickets[number].cancel()
        return True

    def _settle(self, live: Live) -> None:
        """Whether a job is over is decided here alone."""
        with self._wake:
            if live.tickets or live.waits or live.job.id not in self._live:
                return
        if live.error is not None:
            self._end(live, "failed", *live.error)
        elif live.cancelled:
            self._end(live, "cancelled", "the job was cancelled", "cancelled")
        else:
            self._end(live, "done")

    def _end(self, live: Live, state: State, error: str | None = None, code: str | None = None) -> None:
        self._change(live, state=state, finished=time.time(), error=error, code=code)
        self.metrics.end(state, code)
        self.metrics.latency.see(time.time() - live.job.created)
        with self._wake:
            del self._live[live.job.id]

    def _change(self, live: Live, **changes: Any) -> None:
        live.job = self.store.change(live.job, **changes)
        log.info(live.job.state, extra={"job": live.job.id, "client": live.job.client, "error": live.job.error})
        self.tell(live.job)

    def _fail(self, live: Live, error: Exception) -> None:
        if isinstance(error, InputError):
            self._spoil(live, str(error), "invalid_request")
        else:
            log.error("a picture failed", exc_info=error, extra={"job": live.job.id})
            self._spoil(live, f"an error of the server: {type(error).__name__}", "internal_error")

    def _spoil(self, live: Live, message: str, code: str) -> None:
        """Let the job end with an error, once what of it is under way has ended."""
        with self._wake:
            live.error = live.error or (message, code)
            for ticket in live.tickets.values():
                ticket.cancel()
            self._notify()

    # On the engine's thread.

    def _listen(self, live: Live, resident: Resident, step: Step, pass_number: int) -> None:
        live.step += 1
        live.latest = (resident, step.x0)
        id, now = live.job.id, time.monotonic()
        self.events.tell("progress", id, {"id": id, "step": live.step, "steps": max(live.steps or 0, live.step)})
        if now - live.previewed > PREVIEW_EVERY and self.events.heard(id):
            live.previewed = now
            self._previewer.submit(self._preview, live)

    def _hand_over(
        self, live: Live, number: int, resident: Resident, journal: Journal, began: float, ticket: Ticket
    ) -> None:
        seconds = time.monotonic() - began
        self._writer.submit(self._finish, live, number, resident, journal, seconds, ticket)

    # On threads of their own.

    def _preview(self, live: Live) -> None:
        if (jpeg := live.look()) is not None:
            image = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
            self.events.tell("preview", live.job.id, {"id": live.job.id, "image": image})

    def _finish(
        self, live: Live, number: int, resident: Resident, journal: Journal, seconds: float, ticket: Ticket
    ) -> None:
        from darkroom.engine.engine import Cancelled

        share = seconds / max(1, self.running())  # of the machine, beside the others
        try:
            if ticket.error is None:
                self._keep(live, number, resident, ticket)
                self.metrics.picture_time.see(seconds)
                plan = ticket.result().plan
                self.costs.learn(live.job.model, plan.width * plan.height, _steps(plan), share)
            elif not isinstance(ticket.error, Cancelled):
                self._fail(live, ticket.error)
            elif live.error is None and not live.cancelled:
                journal.write()  # the engine was closed: the next one goes on from here
                return
            journal.remove()
        except Exception as error:  # a full disk, say
            self._fail(live, error)
        finally:
            self.residents.give_back(resident)
            self.shares.charge(live.job.client, share)
            with self._wake:
                live.tickets.pop(number, None)
                self._notify()

    def _keep(self, live: Live, number: int, resident: Resident, ticket: Ticket) -> None:
        """The picture's file, then its record."""
        from darkroom.engine.parameters import made_with
        from darkroom.pictures.picture_file import write_picture

        picture, job = ticket.result(), live.job
        path = self.folder / f"{job.id}-{number:04d}.png"
        text = made_with(resident.loaded, picture.plan, resident.pipeline.shelf)
        write_picture(path, picture.pixels, text)
        height, width, _ = picture.pixels.shape
        record = PictureRecord(
            job=job.id,
            number=number,
            model=job.model,
            model_hash=resident.loaded.hash,
            request=plain_settings(picture.plan.filled()),
            images=job.images,
            width=width,
            height=height,
            bytes=path.stat().st_size,
        )
        self.store.add_picture(record)
        self.tell(job)


def _key(resident: Resident) -> str:
    """What answers of the network depend on besides the request: the program, and the model's file as it is."""
    file = resident.loaded.hashed.stat()
    return f"{__version__} {resident.name} {file.st_size} {file.st_mtime_ns} {resident.loaded.model.dtype}"


def _steps(plan: Plan) -> int:
    return sum(len(p.sigmas) - 1 for p in (plan, plan.second) if p is not None)
