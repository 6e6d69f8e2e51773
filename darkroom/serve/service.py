"""What every HTTP shape asks of the server: submit, look, cancel, wait. No torch before a picture is drawn."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from darkroom.checkpoints.folders import CONTROLS, EMBEDDINGS, LORAS, Kept, named_files
from darkroom.checkpoints.model_folders import ModelFolders
from darkroom.errors import InputError, require
from darkroom.serve.events import Event, Events
from darkroom.serve.intake import Limits, check_plan, taken_in
from darkroom.serve.jobs import Job, Submission, remarks_of
from darkroom.serve.peers import Peers
from darkroom.serve.residents import Load, Residents, plan_of
from darkroom.serve.store import open_store
from darkroom.serve.uploads import Uploads
from darkroom.serve.worker import Worker
from darkroom.whole_file import made_folder

__all__ = ["Busy", "Service", "ServiceConfig"]

log = logging.getLogger("darkroom.serve")


class Busy(Exception):
    """The queue is full. `after`: seconds until it may not be."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True)
class ServiceConfig:
    """Where the server keeps things, and how much it does at once."""

    folder: Path  # servers on one store share it
    store: str | None = None  # URL of a PostgreSQL database; None: a file in the folder
    lease: float = 15.0  # seconds after which a server that says nothing has lost its jobs to the others of the store
    limits: Limits = field(default_factory=Limits)
    most: int = 8  # pictures under way at once
    models: int = 2  # in memory at once
    folders: ModelFolders = field(default_factory=ModelFolders)  # of LoRAs, embeddings and control networks
    drain: float = 30.0  # seconds that pictures under way get when the server ends
    keep_days: float | None = None  # of pictures and jobs; None: for ever
    keep_bytes: int | None = None  # of all pictures; the oldest go
    log_prompts: bool = False
    upload_days: float = 2.0  # of uploads that no job names

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name in ("keep_days", "upload_days", "drain") and (getattr(self, f.name) or 0) < 0:
                raise InputError(f"{f.name} is {getattr(self, f.name)}, expected is at least 0")


class Service:
    """The jobs of one server over one engine."""

    def __init__(self, config: ServiceConfig, models: Mapping[str, Load]) -> None:
        self.config = config
        for name in ("pictures", "uploads", "journals"):
            made_folder(config.folder / name)
        self.pictures = config.folder / "pictures"
        self.store = open_store(config.store or config.folder / "jobs.db", config.lease)
        self.events = Events(lambda event: self.peers.relay(event))
        self.uploads = Uploads(config.folder / "uploads", config.limits.upload_pixels)
        self.residents = Residents(
            models,
            lambda: self.queue.notify(),
            most=config.models,
            folders=config.folders,
        )
        self.worker = Worker(
            self.store,
            self.events,
            self.uploads,
            self.residents,
            config.limits,
            config.folder,
            self._tell,
            most=config.most,
        )
        self.queue = self.worker.queue
        self.peers = Peers(self.store, self.queue, self._changed_elsewhere, self._progressed_elsewhere)
        self._elsewhere: dict[str, tuple[int, int]] = {}  # progress of jobs of other servers
        self.draining = False
        self._options: dict[str, dict[str, Any]] = {}

    def options(self, client: str) -> dict[str, Any]:
        """What a client has set for its own requests, for as long as the server lives."""
        return self._options.setdefault(client, {})

    def start(self) -> None:
        """Take up jobs that are left, and have the first model loaded."""
        self.tidy()
        self.worker.start()
        self.peers.start()
        self.residents.prepare(self.residents.name(None))

    def stop(self) -> None:
        """Let pictures under way end, for so long as the configuration says, and stop."""
        self.draining = True
        self.worker.stop(self.config.drain)
        self.peers.stop()
        self.residents.close()
        self.events.close()
        self.store.close()

    def submit(self, asked: Submission) -> Job:
        """Accept a job. `InputError` for what cannot be drawn, `Busy` where too many wait."""
        asked = replace(asked, model=self.residents.name(asked.model))
        if asked.refiner is not None:
            asked = replace(asked, refiner=self.residents.name(asked.refiner))
            require(self.config.models > 1, "--resident", self.config.models, "2 or more, to draw with a refiner")
        asked = taken_in(asked, self.uploads, self.config.limits)
        job = Job(**{f.name: getattr(asked, f.name) for f in fields(Submission)})
        if job.key is None or self.store.keyed(job.client, job.key) is None:
            self._admit(job)
        kept = self.store.add(job)
        if kept.id == job.id:
            prompt = {"prompt": kept.request.get("prompt")} if self.config.log_prompts else {}
            log.info("queued", extra={"job": kept.id, "client": kept.client, "model": kept.model, **prompt})
            self.queue.add(kept)
            self._tell(kept)
        return kept

    def _admit(self, job: Job) -> None:
        """`InputError` or `Busy` where a new job cannot be taken."""
        if self.draining:
            raise Busy("the server is ending and takes no more jobs", 10)
        limits = self.config.limits
        there = [r for r in map(self.residents.there, job.models) if r is not None]
        if len(there) == len(job.models):
            check_plan(plan_of(job, self.uploads.request(job.request, job.images), there)[0], limits)
        waiting = self.queue.order()
        mine = sum(other.client == job.client for other in waiting)
        if len(waiting) >= limits.queue or mine >= limits.client_queue:
            after = self.worker.backlog() / max(1, len(waiting))  # until the next one has gone
            raise Busy(f"{len(waiting)} jobs wait, {mine} of them yours; try again later", after)
        if job.deadline is not None:
            late = time.time() + self.worker.backlog() + self.worker.cost(job) - job.deadline
            if late > 0:
                raise Busy(f"the job would be done about {late:.1f} s after its deadline; try again later", late)

    def cancel(self, id: str) -> Job | None:
        """End the job; None if there is none. Of one that is over nothing changes."""
        if not self.queue.cancel(id):
            self.peers.tell("cancel", id)
        return self.store.job(id)

    def move(self, id: str, before: str | None) -> bool:
        """Put a waiting job before another one, or at the end of those of its priority; whether both wait."""
        order = self.queue.order()
        moved = next((job for job in order if job.id == id), None)
        if moved is None:
            return False
        rest = [job for job in order if job.id != id]
        if before is None:
            last = max((job.place for job in rest), default=0.0)
            return self._moved(id, moved.priority, last + 1)
        at = next((i for i, job in enumerate(rest) if job.id == before), None)
        if at is None:
            return False
        after = rest[at]
        same = at > 0 and rest[at - 1].priority == after.priority
        place = (rest[at - 1].place + after.place) / 2 if same else after.place - 1
        return self._moved(id, after.priority, place)

    def _moved(self, id: str, priority: int, place: float) -> bool:
        if not self.queue.move(id, priority, place):
            return False
        for job in self.queue.order():  # all positions may have changed
            self._tell(job)
        return True

    def pause(self, paused: bool) -> None:
        self.worker.pause(paused)
        self.events.tell("queue", "", self.queue_shown())

    def queue_shown(self) -> dict[str, Any]:
        """What waits, as JSON."""
        waiting = [job.id for job in self.queue.order()]
        return {"paused": self.worker.paused, "running": self.queue.running(), "waiting": waiting}

    def shown(self, job: Job) -> dict[str, Any]:
        """A job as JSON: with its position, progress and pictures."""
        order = [] if job.is_over else [j.id for j in self.queue.order()]
        step, steps = self.progress(job.id)
        pictures = self.store.pictures_of(job.id)
        position = order.index(job.id) + 1 if job.state == "queued" and job.id in order else None
        return {
            **job.shown(),
            "position": position,
            "step": step,
            "steps": steps,
            "pictures": [picture.shown() for picture in pictures],
            "remarks": remarks_of(pictures),
        }

    def progress(self, id: str) -> tuple[int, int | None]:
        """(Steps done, steps in all as far as known) of a job that is not over, on whatever server."""
        return self._elsewhere.get(id) or self.worker.progress(id)

    def _changed_elsewhere(self, id: str) -> None:
        if (job := self.store.job(id)) is not None:
            self.queue.notice(job)
            if job.is_over:
                self._elsewhere.pop(id, None)
            self.events.tell("job", id, self.shown(job), elsewhere=True)

    def _progressed_elsewhere(self, id: str, step: int, steps: int) -> None:
        self._elsewhere[id] = (step, steps)
        self.events.tell("progress", id, {"id": id, "step": step, "steps": steps}, elsewhere=True)

    def _tell(self, job: Job) -> None:
        self.events.tell("job", job.id, self.shown(job))

    def present(self, id: str | None = None) -> list[Event]:
        """The state of the job, or of all that are not over, as events for who begins to listen."""
        jobs = self.store.unfinished() if id is None else [j for j in [self.store.job(id)] if j is not None]
        return [Event("job", job.id, self.shown(job)) for job in jobs]

    def lora_names(self) -> list[str]:
        """LoRAs that prompts may name, by the shortest of their names."""
        return _names(LORAS, self.config.folders.loras)

    def embedding_names(self) -> list[str]:
        """Embeddings that prompts may name, by the shortest of their names."""
        return _names(EMBEDDINGS, self.config.folders.embeddings)

    def control_names(self) -> list[str]:
        """Control networks that units may name, by the shortest of their names."""
        return _names(CONTROLS, self.config.folders.controlnet)

    async def wait(self, job: Job) -> Job:
        """The job once it is over."""
        listener = self.events.listening(job.id, kinds=("job",))
        if (now := self.store.job(job.id) or job).is_over:
            self.events.drop(listener)
            return now
        async for event in self.events.heard_by(listener):
            if event is None or event.data["finished"] is not None:
                now = self.store.job(job.id) or job
                if now.is_over:
                    break
        return now

    def picture_path(self, id: str) -> Path | None:
        """The file of a picture that there is."""
        record = self.store.picture(id)
        path = None if record is None else self.pictures / f"{record.id}.png"
        return path if path is not None and path.exists() else None

    def tidy(self) -> None:
        """Remove what is kept no longer."""
        c, now = self.config, time.time()
        before = 0.0 if c.keep_days is None else now - c.keep_days * 86_400
        if c.keep_days is not None or c.keep_bytes is not None:
            for id in self.store.forget(pictures_before=before, bytes_at_most=c.keep_bytes):
                (self.pictures / f"{id}.png").unlink(missing_ok=True)
            self.store.forget_jobs(before)
        left = tuple(job.id for job in self.store.unfinished())
        for journal in (c.folder / "journals").iterdir():
            if not journal.name.startswith(left):
                journal.unlink(missing_ok=True)
        self.uploads.forget(self.store.used_uploads(), now - c.upload_days * 86_400)


def _names(kept: Kept, folders: Sequence[Path]) -> list[str]:
    found = named_files(kept, folders)
    return sorted({path: name for name, path in reversed(found.items())}.values(), key=str.lower)
