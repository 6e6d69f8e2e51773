"""The models that the server holds: loaded on a thread of their own while others draw, let go when room is needed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from darkroom.checkpoints.model_folders import ModelFolders
from darkroom.errors import InputError
from darkroom.registry import nearest

if TYPE_CHECKING:
    from darkroom.checkpoints.model import LoadedModel
    from darkroom.engine.engine import Draw
    from darkroom.engine.pipeline import Pipeline
    from darkroom.engine.preview import Preview
    from darkroom.requests.plan import Plan
    from darkroom.serve.jobs import Submission
    from darkroom.systems.build import LatentDiffusion
    from darkroom.types import Request

__all__ = ["Resident", "Residents", "plan_of"]

Load = Callable[[], "LoadedModel"]

log = logging.getLogger("darkroom.serve")


@dataclass(eq=False)
class Resident:
    """A model in memory. `users`: pictures under way; `preview`: made when it is first looked at."""

    name: str
    loaded: LoadedModel
    pipeline: Pipeline
    users: int = 0
    used: float = field(default_factory=time.monotonic)
    preview: Preview | None = None

    def jpeg(self, x0: Any) -> bytes:
        """What a clean estimate (1, C, h, w) looks like."""
        if self.preview is None:
            from darkroom.checkpoints.taesd import decoder_beside
            from darkroom.engine.preview import Preview

            self.preview = Preview(self.loaded.model, decoder_beside(self.loaded.hashed))
        return self.preview.jpeg(x0)


class Residents:
    """At most `most` models at once out of those that `known` loads. May be called from any thread.

    `changed` is called when a model is there or has failed.
    """

    def __init__(
        self,
        known: Mapping[str, Load],
        changed: Callable[[], None],
        *,
        most: int = 2,
        folders: ModelFolders | None = None,
    ) -> None:
        self.known, self.changed, self.most = known, changed, most
        self.folders = folders or ModelFolders()
        self._lock = threading.Lock()
        self._there: dict[str, Resident] = {}
        self._coming: str | None = None
        self._failed: dict[str, Exception] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="darkroom loader")

    def name(self, asked: str | None) -> str:
        """The known model that a client means: the first where it names none. `InputError` for an unknown one."""
        if not asked:
            return next(iter(self.known))
        if asked in self.known:
            return asked
        raise InputError(f"unknown model {asked!r}; known are: {', '.join(nearest(asked, list(self.known))[:8])}")

    def there(self, name: str) -> Resident | None:
        """The model if it is in memory."""
        with self._lock:
            return self._there.get(name)

    def take(self, name: str) -> Resident | None:
        """The model for one picture, to be given back; None while it is on its way, or no room can be made for it yet.

        Raises what went wrong with loading it, once; the next one who asks has it tried again.
        """
        self.name(name)  # a job of an earlier start may name a model that is gone
        with self._lock:
            if (error := self._failed.pop(name, None)) is not None:
                raise error
            if (resident := self._there.get(name)) is not None:
                resident.users += 1
                resident.used = time.monotonic()
                return resident
            self._fetch(name)
        return None

    def take_all(self, names: Sequence[str]) -> list[Resident] | None:
        """All of the models for one picture, or none: who waits for one holds no other back."""
        taken: list[Resident] = []
        try:
            for name in names:
                if (resident := self.take(name)) is None:
                    break
                taken.append(resident)
        finally:
            if len(taken) < len(names):
                self.give_back(taken)
        return taken if len(taken) == len(names) else None

    def prepare(self, name: str) -> None:
        """Have a model loaded before anybody asks for it."""
        with self._lock:
            if name not in self._there:
                self._fetch(name)

    def give_back(self, taken: Sequence[Resident]) -> None:
        with self._lock:
            for resident in taken:
                resident.users -= 1
                resident.used = time.monotonic()

    def let_go(self, name: str) -> bool:
        """Forget a model that nobody uses, so that its memory is free; whether it was done."""
        with self._lock:
            resident = self._there.get(name)
            if resident is None or resident.users:
                return False
            del self._there[name]
            return True

    def shown(self) -> list[dict[str, Any]]:
        """All that are known, as OpenAI lists models, with what is known of them."""
        with self._lock:
            return [_shown(name, self._there.get(name), coming=name == self._coming) for name in self.known]

    def close(self) -> None:
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, name: str) -> None:
        """With the lock held. Begin to load a model, if none is on its way and there is room."""
        if self._coming is None and self._make_room():
            self._coming = name
            self._loader.submit(self._load, name)

    def _make_room(self) -> bool:
        """With the lock held. Whether one more model may be loaded, after the one idle longest went."""
        if len(self._there) < self.most:
            return True
        idle = [r for r in self._there.values() if not r.users]
        if not idle:
            return False
        del self._there[min(idle, key=lambda r: r.used).name]
        return True

    def _load(self, name: str) -> None:
        error: Exception | None = None
        resident: Resident | None = None
        try:
            from darkroom.engine.pipeline import Pipeline

            loaded = self.known[name]()
            if not loaded.model.spares_memory:
                _read_whole(loaded.model)
            f = self.folders
            pipeline = Pipeline(loaded.model, f.loras, f.embeddings, f.controlnet, paths=False)
            resident = Resident(name, loaded, pipeline)
        except Exception as e:
            error = e
            log.error("%s", e, extra={"model": name}, exc_info=None if isinstance(e, InputError) else e)
        with self._lock:
            self._coming = None
            if resident is not None:
                self._there[name] = resident
            elif error is not None:
                self._failed[name] = error
        self.changed()


def _read_whole(model: LatentDiffusion) -> None:
    """Take the weights out of the file that they are mapped from: who writes over it would change pictures, and who
    cuts it short would end the process."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def plan_of(job: Submission, request: Request, models: Sequence[Resident]) -> tuple[Plan, Draw]:
    """(What a picture of `job` is like, the work on it) by its models; `InputError` where it cannot be done."""
    from darkroom.engine.planned import planned

    first, *others = (resident.pipeline for resident in models)
    return planned(first, request, *others, switch=job.switch_at)


def _shown(name: str, resident: Resident | None, *, coming: bool) -> dict[str, Any]:
    shown = {"id": name, "object": "model", "created": 0, "owned_by": "darkroom"}
    if resident is None:
        return {**shown, "state": "loading" if coming else "unloaded"}
    system = resident.loaded.model.system
    inputs = sorted({key for e in system.embedders for key in e.reads})
    tasks = [*(["text to image"] if "prompt" in inputs else []), "image to image", "inpainting"]
    if any(e.enlarges for e in system.embedders):
        tasks = ["super-resolution"]
    return {
        **shown,
        "state": "loaded",
        "system": system.name,
        "size": {"width": system.defaults.width, "height": system.defaults.height},
        "defaults": {
            "steps": system.defaults.steps,
            "guidance_scale": system.defaults.guidance_scale,
            "guidance_interval": system.defaults.guidance_interval,
            "sampler": system.defaults.sampler,
            "schedule": system.defaults.schedule,
        },
        "inputs": inputs,
        "classes": {e.key: list(e.names) for e in system.embedders if e.names},
        "tasks": tasks,
    }
