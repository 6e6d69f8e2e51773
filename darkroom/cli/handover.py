"""Handing the requests of `darkroom generate` over to a server of the same user, so that nothing has to be loaded."""

from __future__ import annotations

import http.client
import io
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from darkroom.errors import InputError
from darkroom.prompts.grammar import parse
from darkroom.requests.change import said
from darkroom.requests.settings import find_setting
from darkroom.serve.announcement import Announcement, find_server, named, same_folders
from darkroom.serve.intake import UNSAID, plain_settings
from darkroom.serve.uploads import control_picture

if TYPE_CHECKING:
    import numpy as np

    from darkroom.cli.draw import Job
    from darkroom.cli.models import Models
    from darkroom.types import Request

__all__ = ["ServedModel", "hand_over", "served_model"]

SENT = ("picture", "mask")  # kinds of settings whose arrays become uploads without loss
PATIENCE = 2.0  # seconds that a server has to accept the first request


def hand_over(requests: list[Request], job: Job, began: float) -> bool:
    """Have the user's server draw `requests`, if one runs that draws exactly this, and write its pictures.

    False, and nothing done, where none does. The pictures are those that each request gives alone, byte for byte.
    """
    server = find_server()
    if server is None or not _draws(server, requests, job):
        return False
    model, more = server.models[named(job.models.name)], dict[str, Any]()
    if job.additions.refiner is not None:
        more = {"refiner": server.models[named(job.additions.refiner)], "switch_at": job.additions.switch}
    try:
        line = _Line(server, PATIENCE)
        submitted = [line.submit(model, request, more) for request in requests]
    except OSError:
        return False  # it has just ended
    line.patience = None
    written, first, remarked = 0, job.output.first_number(), dict[str, None]()
    try:
        for index, (request, id) in enumerate(zip(requests, submitted)):
            done = line.finished(id)
            if done["state"] != "done":
                raise InputError(done["error"]["message"])
            for remark in [r for r in done["remarks"] if r not in remarked]:
                print(remark, file=sys.stderr)
                remarked[remark] = None
            ending = job.output.ending
            content = line.get(f"/v1/pictures/{done['pictures'][0]['id']}.{ending}")
            print(job.output.place(first + index, len(requests), content, request.seed), flush=True)
            written += 1
    except (KeyboardInterrupt, InputError, OSError) as error:
        for id in submitted[written:]:
            line.cancel(id)
        if isinstance(error, OSError):
            raise InputError(f"the server at {server.address} went away; --local draws without it") from None
        raise
    many = f"{written} picture{'s' if written != 1 else ''}"
    print(f"{many} in {time.perf_counter() - began:.2f} s, drawn by the server at {server.address}", file=sys.stderr)
    return True


@dataclass(frozen=True)
class ServedPicture:
    """What a server drew: pixels uint8 (H, W, 3)."""

    pixels: np.ndarray


@dataclass(frozen=True)
class ServedModel:
    """A model of the user's server, `name` there, in the place of a pipeline."""

    server: Announcement
    name: str

    def run(self, requests: Sequence[Request], *, batch_size: int = 8) -> Iterator[tuple[int, ServedPicture]]:
        """The picture that each request gives alone, with its number, in order; twice `batch_size` are asked for at a
        time. Stop iterating to cancel. `InputError` where one cannot be drawn, or the server goes away."""
        from darkroom.pictures.reading import read_pixels

        line = _Line(self.server, None)
        ahead = deque[str]()
        left = iter(requests)
        try:
            for index in range(len(requests)):
                ahead += [line.submit(self.name, request, {}) for request in islice(left, 2 * batch_size - len(ahead))]
                done = line.finished(ahead[0])
                if done["state"] != "done":
                    raise InputError(done["error"]["message"])
                ahead.popleft()
                content = line.get(done["pictures"][0]["url"])
                yield index, ServedPicture(read_pixels(io.BytesIO(content), "the server's picture"))
        except OSError:
            raise InputError(f"the server at {self.server.address} went away") from None
        finally:
            for id in ahead:
                line.cancel(id)


def served_model(models: Models) -> ServedModel | None:
    """The model on the user's server, if one runs that draws as it does here; its LoRAs and embeddings are not asked
    for."""
    server = find_server()
    if server is None or models.local or named(models.name) not in server.models or not _is_as_served(models, server):
        return None
    return ServedModel(server, server.models[named(models.name)])


def _draws(server: Announcement, requests: list[Request], job: Job) -> bool:
    """Whether the server gives the very pictures that this process would."""
    plain = not (job.axes or job.rate or job.preview or job.like) and job.told
    models = [job.models.name, *([job.additions.refiner] if job.additions.refiner is not None else [])]
    kinds = {find_setting(path).kind for request in requests for path in said(request)}
    return (
        plain
        and not job.models.local
        and all(named(model) in server.models for model in models)
        and _is_as_served(job.models, server)
        and not kinds & ({*UNSAID} - {*SENT})
        and same_folders(job.folders.loras, server.lora_folders)
        and same_folders(job.folders.embeddings, server.embedding_folders)
        and same_folders(job.folders.controlnet, server.control_folders)
        and not any(_names_files(request) for request in requests)
    )


def _names_files(request: Request) -> bool:
    """Whether it names a LoRA or a control network by its path, which no server opens."""
    tags = [tag for text in (request.prompt, *(r.prompt for r in request.regions)) for tag in parse(text).loras]
    units = [name for unit in request.controls for name in (unit.model, unit.encoder) if name is not None]
    return any(os.path.exists(name) for name in (*(tag.name for tag in tags), *units))


def _is_as_served(models: Models, server: Announcement) -> bool:
    """Whether nothing is said of how to load the model that the server has not been told."""
    usual = type(models)(name=models.name, device=server.device, dtype=server.dtype)
    return models == usual


class _Line:
    """Requests to one server, one after another."""

    def __init__(self, server: Announcement, patience: float | None) -> None:
        self.host = urlsplit(server.address).netloc
        self.headers = {"Authorization": f"Bearer {server.token}", "X-Client": "generate"}
        self.patience = patience

    def submit(self, model: str, request: Request, more: Mapping[str, Any]) -> str:
        """The id of the job that draws `request`; `more` of the job beside it."""
        images = {path: self._upload(path, value) for path, value in said(request).items() if hasattr(value, "shape")}
        for number, unit in enumerate(request.controls):
            images[control_picture(number)] = self._upload("controls", unit.image)
        body = {"model": model, "request": plain_settings(request), "images": images, "exact": True, **more}
        return self._json("POST", "/v1/jobs", json.dumps(body).encode(), "application/json")["id"]

    def finished(self, id: str) -> dict[str, Any]:
        """The job once it is over."""
        with self._answer("GET", f"/v1/jobs/{id}/events") as answer:
            while line := answer.readline():
                if line.startswith(b"data: ") and b'"finished"' in line:
                    job = json.loads(line.removeprefix(b"data: "))
                    if job["finished"] is not None:
                        return job
        raise ConnectionError("the stream ended before the job did")

    def get(self, path: str) -> bytes:
        with self._answer("GET", path) as answer:
            return answer.read()

    def cancel(self, id: str) -> None:
        """As far as the server is there."""
        try:
            self._json("DELETE", f"/v1/jobs/{id}")
        except (OSError, InputError):
            return

    def _upload(self, path: str, value: np.ndarray) -> str:
        from PIL import Image

        buffer = io.BytesIO()
        pixels = value * 255 if path == "mask" else value
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        return self._json("POST", "/v1/uploads", buffer.getvalue(), "application/octet-stream")["id"]

    def _json(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> dict[str, Any]:
        with self._answer(method, path, body, {"Content-Type": kind} if kind else {}) as answer:
            return json.loads(answer.read())

    @contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self.host, timeout=self.patience)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            if answer.status >= 400:
                raise InputError(_message(answer.read(), answer.status))
            yield answer
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from None
        finally:
            connection.close()


def _message(body: bytes, status: int) -> str:
    try:
        return json.loads(body)["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return f"the server answered with status {status}"
