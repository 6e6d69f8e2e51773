"""What the shapes that answer with pictures share: waiting for a job while its client is there, and pictures' bytes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

from fastapi import HTTPException, Request

from darkroom.errors import InputError
from darkroom.requests.settings import find_setting
from darkroom.serve.jobs import Job, PictureRecord, Submission
from darkroom.serve.service import Service

__all__ = [
    "client_of",
    "drawn",
    "failed",
    "form_bytes",
    "picture_text",
    "preprocessor_names",
    "service_of",
    "settings_of",
    "thumbnail",
]

LOOK_EVERY = 0.25  # seconds between looks whether the client is there
STATUS = {
    "invalid_request": 400,
    "deadline_exceeded": 504,
    "cancelled": 409,
    "storage_error": 507,
}  # of errors of jobs; else 500

log = logging.getLogger("darkroom.serve")


def service_of(request: Request) -> Service:
    """The service behind the app."""
    return request.app.state.service


def client_of(request: Request, part: str | None = None) -> str:
    """Whose queue a request belongs to: the token's owner and, of one token, who is said to use it."""
    owner = request.scope.get("client_name", "")
    return f"{owner}/{part[:64]}" if part else owner


def settings_of(more: Mapping[str, Any]) -> dict[str, Any]:
    """Settings among the fields of a body that another tool's shape does not know; absent ones are left out.

    `InputError` for what is no setting either.
    """
    return {find_setting(name).path: value for name, value in more.items() if value is not None}


async def drawn(request: Request, asked: Submission) -> tuple[Job, list[PictureRecord]]:
    """The job and its pictures once they are there; `HTTPException` where it ends otherwise.

    Where the client goes away before, its job is cancelled, unless its key lets it fetch the pictures later.
    """
    service = service_of(request)
    job = await asyncio.to_thread(service.submit, asked)
    waiting = asyncio.create_task(service.wait(job))
    try:
        while not waiting.done():
            await asyncio.wait([waiting], timeout=LOOK_EVERY)
            if not waiting.done() and await request.is_disconnected():
                gone(service, job)
                raise HTTPException(499, "the client went away")
    finally:
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
    job = waiting.result()
    if job.state != "done":
        raise failed(job)
    return job, await asyncio.to_thread(service.store.pictures_of, job.id)


def gone(service: Service, job: Job) -> None:
    """What becomes of a job whose client went away. It waits for nothing, so that it may be said while cancelled."""
    log.info("the client went away (499)", extra={"job": job.id, "client": job.client})
    if job.key is None:
        asyncio.get_running_loop().run_in_executor(None, service.cancel, job.id)


def failed(job: Job) -> HTTPException:
    """What a client is told of a job that did not end well."""
    return HTTPException(STATUS.get(job.code or "", 500), job.error or "the job failed")


def form_bytes(service: Service, record: PictureRecord, form: str = "png", quality: int = 95) -> bytes:
    """A picture's file as it is kept, or in another format, with the same parameters inside."""
    path = service.picture_path(record.id)
    if path is None:
        raise InputError(f"the picture {record.id} is not kept any more")
    if form == "png":
        return path.read_bytes()
    from darkroom.pictures.picture_file import encoded
    from darkroom.pictures.reading import read_pixels

    return encoded(form, read_pixels(path), picture_text(service, record), quality)


def preprocessor_names() -> list[str]:
    """What makes hints for control networks of pictures."""
    from darkroom.pictures.hints import HINTS

    return list(HINTS)


def thumbnail(service: Service, record: PictureRecord, side: int) -> bytes:
    """A picture as JPEG of at most `side` pixels a side, without its parameters."""
    from PIL import Image

    path = service.picture_path(record.id)
    if path is None:
        raise InputError(f"the picture {record.id} is not kept any more")
    buffer = BytesIO()
    with Image.open(path) as image:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        image.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def picture_text(service: Service, record: PictureRecord) -> str:
    """The `parameters` of a picture."""
    from PIL import Image

    path = service.picture_path(record.id)
    if path is None:
        return ""
    with Image.open(path) as image:
        return str(image.info.get("parameters", ""))
