"""The thread that takes jobs from the queue to the engine, and what becomes of their pictures."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom import __version__
from darkroom.errors import InputError
from darkroom.serve.database import Unreachable
from darkroom.serve.disk import Unkept, keeping
from darkroom.serve.events import Events
from darkroom.serve.intake import Limits, check_plan, plain_settings
from darkroom.serve.jobs import Job, PictureRecord, State
from darkroom.serve.live import Live
from darkroom.serve.metrics import Metrics, give_back_memory
from darkroom.serve.queue import Queue
from darkroom.serve.residents import Resident, Residents, plan_of
from darkroom.serve.scheduler import Costs, in_turn
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
GIVE_BACK_EVERY = 20.0  # seconds

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
        self.queue = Queue(store, self.folder)
        self.costs = Costs()
        self.metrics = Metrics()
        self._stopping = self._closed = False
        self._engine: Engine | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="darkroom writer")
        self._previewer = ThreadPoolExecutor(1, thread_name_prefix="darkroom previewer")
        self._thread = threading.Thread(target=self._work, name="darkroom worker", daemon=True)

    # What the server asks for.

    def start(self) -> None:
        """Take up what was left, and begin."""
        self.queue.look_around()
        self._thread.start()

    def pause(self, paused: bool) -> None:
        """Begin no more pictures, or go on."""
        self.paused = paused
        self.queue.notify()

    def progress(self, id: str) -> tuple[int, int | None]:
        """(Steps done, steps in all as far as known) of a job that is not over."""
        live = self.queue.live(id)
        return (0, None) if live is None else (live.step, live.steps)

    def cost(self, job: Job) -> float:
        """The seconds that a job is expected to take of the machine; 0 before its model has drawn anything."""
        resident = self.residents.there(job.model)
        if resident is None:
            return 0.0
        said, usual = job.request, resident.loaded.model.system.defaults
        pixels = (said.get("width") or usual.width) * (said.get("height") or usual.height)
        live = self.queue.live(job.id)
        left = job.count if live is None else len(live.todo) + len(live.tickets)
        return left * (self.costs.seconds(job.model, pixels, said.get("steps") or usual.steps) or 0.0)

    def backlog(self) -> float:
        """The seconds that all jobs which are not over are expected to take."""
        return sum(self.cost(live.job) for live in self.queue.lives())

    def preview(self, id: str) -> bytes | None:
        """What the first of the job's pictures under way looks like now, as JPEG; None if none is."""
        live = self.queue.live(id)
        number = min(list(live.latest), default=None) if live is not None else None
        return None if live is None or number is None else live.look(number)

    def stop(self, seconds: float) -> None:
        """Begin nothing more, give what is under way `seconds`, and end. What is left goes on at the next start."""
        with self.queue.changed:
            self._stopping = True
            self.queue.notify()
            self.queue.changed.wait_for(lambda: not self.queue.running(), seconds)
            self._closed = True
            self.queue.notify()
        if self._thread.ident is not None:
            self._thread.join(30)
        if self._engine is not None:
            self._engine.close()
        self._writer.shutdown()
        self._previewer.shutdown(cancel_futures=True)

    # The thread.

    def _work(self) -> None:
        from darkroom.engine.engine import Engine  # PyTorch is imported here, beside a page that answers already

        self._engine = Engine(most=self.most, learns=True, called=self.metrics.call).start()
        given_back = time.monotonic()
        while True:
            self.queue.wait(LOOK_EVERY)
            if self._closed:
                return
            if time.monotonic() - given_back > GIVE_BACK_EVERY:
                give_back_memory()
                given_back = time.monotonic()
            try:
                self._look()
            except Unreachable as error:
                log.warning("%s", error)
            except Exception:
                log.exception("the worker failed to look at the queue")

    def _look(self) -> None:
        """End what is over, then begin what may."""
        now = time.time()
        for live in self.queue.lives():
            if live.job.deadline is not None and now > live.job.deadline and live.error is None:
                self.queue.spoil(live, "the job was not done by its deadline", "deadline_exceeded")
            self._settle(live)
        while not self._stopping and not self.paused and self.queue.running() < self.most:
            waiting = {live.job.id: live for live in self.queue.waiting()}
            order = in_turn((live.job for live in waiting.values()), self.queue.shares.served, now, self.cost)
            if not any(self._begin(waiting[job.id]) for job in order):
                return

    def _begin(self, live: Live) -> bool:
        """The next picture of a job; False where its model is on its way."""
        from darkroom.engine.desks import exact
        from darkroom.engine.journal import Journal, journaled

        try:
            models = self.residents.take_all(live.job.models)
        except Exception as error:
            if self.queue.own(live):
                self._fail(live, error)
            return True
        if models is None:
            return False
        try:
            if not self.queue.own(live) or not live.waits:
                self.residents.give_back(models)
                return True
            job = live.job
            number = live.todo[0]
            if live.request is None:
                live.request = self.uploads.request(job.request, job.images)
            request = replace(live.request, seed=live.request.seed + number)
            plan, work = plan_of(job, request, models)
            check_plan(plan, self.limits)
            for resident in models:  # what is read from files is read here, beside pictures under way
                resident.pipeline.shelf.of(plan.prompt.loras, resident.loaded.model)
            models[0].pipeline.controls.of(request.controls, models[0].loaded.model)
            journal = Journal(self.journals / f"{job.id}-{number:04d}", _key(job, models))
            draw = journaled(work, journal)
            draw = exact(draw) if job.exact else draw
            if job.state == "queued":
                live.job = self.store.start(job)
                self._say(live)
                self.metrics.queue_time.see(time.time() - job.created)
        except Unreachable:
            self.residents.give_back(models)
            raise
        except Exception as error:
            self.residents.give_back(models)
            self._fail(live, error)
            return True
        live.todo.popleft()
        live.steps = job.count * _steps(plan)
        assert self._engine is not None, "made when the thread began"
        began = time.monotonic()
        listen = partial(self._listen, live, number, models[0])
        finished = partial(self._hand_over, live, number, models, journal, began)
        with self.queue.changed:
            live.tickets[number] = self._engine.submit(draw, listen, finished)
            if live.cancelled:
                live.tickets[number].cancel()
        return True

    def _settle(self, live: Live) -> None:
        """Whether a job is over is decided here alone."""
        if live.tickets or live.waits or live.job.id not in self.queue:
            return
        if not self.queue.own(live) or live.waits:
            return
        if live.error is not None:
            self._end(live, "failed", *live.error)
        elif live.cancelled:
            self._end(live, "cancelled", "the job was cancelled", "cancelled")
        else:
            self._end(live, "done")

    def _end(self, live: Live, state: State, error: str | None = None, code: str | None = None) -> None:
        over = self.store.finish(live.job, state, error, code)
        if over is not None:
            live.job = over
            self.metrics.end(state, code)
            self.metrics.latency.see(time.time() - over.created)
            self._say(live)
        self.queue.forget(live)

    def _say(self, live: Live) -> None:
        log.info(live.job.state, extra={"job": live.job.id, "client": live.job.client, "error": live.job.error})
        self.tell(live.job)

    def _fail(self, live: Live, error: Exception) -> None:
        if isinstance(error, InputError):
            self.queue.spoil(live, str(error), "invalid_request")
        elif isinstance(error, Unkept):
            log.error("%s", error, extra={"job": live.job.id})
            self.queue.spoil(live, str(error), "storage_error")
        else:
            log.error("a picture failed", exc_info=error, extra={"job": live.job.id})
            self.queue.spoil(live, f"an error of the server: {type(error).__name__}", "internal_error")

    # On the engine's thread.

    def _listen(self, live: Live, number: int, resident: Resident, step: Step, pass_number: int) -> None:
        live.step += 1
        live.latest[number] = (resident, step.x0)
        id, now = live.job.id, time.monotonic()
        self.events.tell("progress", id, {"id": id, "step": live.step, "steps": max(live.steps or 0, live.step)})
        if now - live.previewed.get(number, 0.0) > PREVIEW_EVERY and self.events.heard("preview", id):
            live.previewed[number] = now
            self._previewer.submit(self._preview, live, number)

    def _hand_over(
        self, live: Live, number: int, models: Sequence[Resident], journal: Journal, began: float, ticket: Ticket
    ) -> None:
        seconds = time.monotonic() - began
        self._writer.submit(self._finish, live, number, models, journal, seconds, ticket)

    # On threads of their own.

    def _preview(self, live: Live, number: int) -> None:
        if (jpeg := live.look(number)) is not None:
            image = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
            self.events.tell("preview", live.job.id, {"id": live.job.id, "number": number, "image": image})

    def _finish(
        self, live: Live, number: int, models: Sequence[Resident], journal: Journal, seconds: float, ticket: Ticket
    ) -> None:
        from darkroom.engine.engine import Cancelled

        share = seconds / max(1, self.queue.running())  # of the machine, beside the others
        try:
            if ticket.error is None:
                self._keep(live, number, models, ticket)
                self.metrics.picture_time.see(seconds)
                plan = ticket.result().plan
                self.costs.learn(live.job.model, plan.width * plan.height, _steps(plan), share)
            elif not isinstance(ticket.error, Cancelled):
                self._fail(live, ticket.error)
            elif not live.mine:
                return  # another server goes on with it
            elif live.error is None and not live.cancelled:
                journal.write()  # the engine was closed: the next one goes on from here
                return
            journal.remove()
        except Exception as error:  # a full disk, say
            self._fail(live, error)
        finally:
            self.residents.give_back(models)
            self.queue.shares.charge(live.job.client, share)
            with self.queue.changed:
                live.tickets.pop(number, None)
                live.latest.pop(number, None)
                self.queue.notify()

    def _keep(self, live: Live, number: int, models: Sequence[Resident], ticket: Ticket) -> None:
        """The picture's file, then its record."""
        from darkroom.engine.parameters import made_with
        from darkroom.engine.refine import refiner_files
        from darkroom.pictures.picture_file import write_picture
        from darkroom.requests.remarks import remarks

        picture, job, resident = ticket.result(), live.job, models[0]
        path = self.folder / f"{job.id}-{number:04d}.png"
        files = refiner_files(models[1].loaded, job.switch_at) if len(models) > 1 else None
        text = made_with(resident.loaded, picture.plan, resident.pipeline.shelf, files)
        with keeping("the picture"):
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
            remarks=tuple(remarks(picture.plan, resident.loaded.model.system)),
        )
        while True:
            try:
                self.store.add_picture(record)
                break
            except Unreachable:
                if self._closed:
                    raise
                log.warning("the store does not answer; the picture waits for it", extra={"job": job.id})
                time.sleep(LOOK_EVERY)
        self.tell(job)


def _key(job: Job, models: Sequence[Resident]) -> str:
    """What answers of the network depend on besides the request: the program, and the models' files as they are."""
    said = [__version__, f"{job.switch_at:g}"]
    for resident in models:
        file = resident.loaded.hashed.stat()
        said += [resident.name, str(file.st_size), str(file.st_mtime_ns), str(resident.loaded.model.dtype)]
    return " ".join(said)


def _steps(plan: Plan) -> int:
    return sum(len(p.sigmas) - 1 for p in (plan, plan.second) if p is not None)
