"""The server's own shape: jobs, uploads, pictures, events, and what can be asked for. docs/serve.md shows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import cache
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from darkroom.requests.change import schema
from darkroom.serve.answers import client_of, form_bytes, preprocessor_names, service_of, thumbnail
from darkroom.serve.examples import JOB, MODEL, PICTURE, QUEUE, SUBMITTED, answered, listed
from darkroom.serve.jobs import STATES, State, Submission
from darkroom.serve.service import Service

__all__ = ["router"]

IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}


@cache
def _schema() -> dict[str, Any]:
    return schema()


class JobBody(BaseModel):
    """A job to submit."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"request": {"prompt": "a red house left of a yellow tree", "seed": 7}, "count": 2}]
        },
    )
    model: str | None = Field(None, description="A name of /v1/models; default: the first.")
    request: dict[str, Any] = Field(
        default_factory=dict, description="Settings by their paths, see /v1/schema.", json_schema_extra=_schema()
    )
    images: dict[str, str] = Field(default_factory=dict, description="Ids of uploads: init, mask, target …")
    count: int = Field(1, description="Pictures, of seeds one after another.")
    priority: int = Field(0, description="Higher ones first.")
    deadline: float | None = Field(None, gt=0, description="Seconds from now; the job fails if it is not done by then.")
    exact: bool = Field(False, description="Compute each picture by itself, to the same bits as alone.")
    refiner: str | None = Field(None, description="The model that draws the end; a name of /v1/models.")
    switch_at: float = Field(0.8, gt=0, lt=1, description="The share of the schedule at which the refiner begins.")


class MoveBody(BaseModel):
    """Where a waiting job goes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"before": QUEUE["waiting"][0]}]})
    before: str | None = Field(None, description="The waiting job that it goes before; null: to the end.")


class QueueBody(BaseModel):
    """What is done to the queue."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"paused": True}]})
    paused: bool


router = APIRouter(prefix="/v1")


Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
ClientName = Annotated[str | None, Header(alias="X-Client", max_length=64)]
LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", max_length=80)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Side = Annotated[int, Query(ge=16, le=1024, description="Pixels of the longer side, at most.")]


@router.get("/schema")
async def request_schema() -> dict[str, Any]:
    """The JSON schema of a job's `request`."""
    return _schema()


@router.get("/models", responses=answered(listed([MODEL])))
async def models(request: Request) -> dict[str, Any]:
    """The models that can be asked for."""
    return listed(service_of(request).residents.shown())


@router.get("/models/{id}", responses=answered(MODEL))
async def model(request: Request, id: str) -> dict[str, Any]:
    """One model."""
    found = [shown for shown in service_of(request).residents.shown() if shown["id"] == id]
    if not found:
        raise HTTPException(404, f"there is no model {id!r}")
    return found[0]


@router.get("/samplers")
async def samplers() -> dict[str, Any]:
    """Names of the samplers."""
    from darkroom.library import sampler_names

    return listed(await asyncio.to_thread(sampler_names))


@router.get("/schedules")
async def schedules() -> dict[str, Any]:
    """Names of the schedules of noise levels."""
    from darkroom.library import schedule_names

    return listed(await asyncio.to_thread(schedule_names))


@router.get("/loras")
async def loras(request: Request) -> dict[str, Any]:
    """Names of the LoRAs that prompts may name."""
    return listed(await asyncio.to_thread(service_of(request).lora_names))


@router.get("/embeddings")
async def embeddings(request: Request) -> dict[str, Any]:
    """Names of the embeddings that prompts may name."""
    return listed(await asyncio.to_thread(service_of(request).embedding_names))


@router.get("/controls")
async def controls(request: Request) -> dict[str, Any]:
    """Names of the control networks that units may name, and what makes hints of pictures."""
    names = await asyncio.to_thread(service_of(request).control_names)
    return {**listed(names), "preprocessors": await asyncio.to_thread(preprocessor_names)}


@router.post("/jobs", status_code=202, responses=answered(SUBMITTED, 202))
async def submit(request: Request, body: JobBody, key: Key = None, client: ClientName = None) -> dict[str, Any]:
    """Submit a job. The same `Idempotency-Key` again answers with the first job."""
    service = service_of(request)
    asked = Submission(
        model=body.model or "",
        request=body.request,
        images=body.images,
        count=body.count,
        priority=body.priority,
        deadline=None if body.deadline is None else time.time() + body.deadline,
        exact=body.exact,
        client=client_of(request, client),
        key=key,
        refiner=body.refiner,
        switch_at=body.switch_at,
    )
    job = await asyncio.to_thread(service.submit, asked)
    return await asyncio.to_thread(service.shown, job)


@router.get("/jobs", responses=answered(listed([JOB])))
async def jobs(
    request: Request, state: str | None = None, limit: Limit = 50, before: str | None = None
) -> dict[str, Any]:
    """The newest jobs first; `state`: one or more, between commas."""
    states = [s for s in (state or "").split(",") if s]
    if unknown := [s for s in states if s not in STATES]:
        raise HTTPException(400, f"unknown state {unknown[0]!r}; known are: {', '.join(STATES)}")
    service = service_of(request)
    known: list[State] = [s for s in STATES if s in states]
    found = await asyncio.to_thread(service.store.jobs, known, limit, before)
    return listed([await asyncio.to_thread(service.shown, job) for job in found])


@router.get("/jobs/{id}", responses=answered(JOB))
async def job(request: Request, id: str) -> dict[str, Any]:
    """One job."""
    service = service_of(request)
    if (found := await asyncio.to_thread(service.store.job, id)) is None:
        raise HTTPException(404, f"there is no job {id!r}")
    return await asyncio.to_thread(service.shown, found)


@router.delete("/jobs/{id}", responses=answered(JOB))
async def cancel(request: Request, id: str) -> dict[str, Any]:
    """Cancel a job: at once where it waits, else before its next step. Finished pictures stay."""
    service = service_of(request)
    if (found := await asyncio.to_thread(service.cancel, id)) is None:
        raise HTTPException(404, f"there is no job {id!r}")
    return await asyncio.to_thread(service.shown, found)


@router.post("/jobs/{id}/move", responses=answered(JOB))
async def move(request: Request, id: str, body: MoveBody) -> dict[str, Any]:
    """Move a waiting job."""
    service = service_of(request)
    if not await asyncio.to_thread(service.move, id, body.before):
        raise HTTPException(409, f"the job {id!r}, or the one that it is to go before, does not wait")
    return await job(request, id)


@router.get("/jobs/{id}/events")
async def job_events(request: Request, id: str, last: LastEvent = None) -> StreamingResponse:
    """What happens to one job, until it is over."""
    service = service_of(request)
    if (found := await asyncio.to_thread(service.store.job, id)) is None:
        raise HTTPException(404, f"there is no job {id!r}")
    return _stream(service, found.id, last)


@router.get("/events")
async def events(request: Request, last: LastEvent = None) -> StreamingResponse:
    """What happens to all jobs; it begins with those that are not over."""
    return _stream(service_of(request), None, last)


@router.get("/queue", responses=answered(QUEUE))
async def queue(request: Request) -> dict[str, Any]:
    """What waits, in order."""
    return await asyncio.to_thread(service_of(request).queue_shown)


@router.post("/queue", responses=answered(QUEUE))
async def change_queue(request: Request, body: QueueBody) -> dict[str, Any]:
    """Pause the queue, pictures under way go on; or let it go on."""
    await asyncio.to_thread(service_of(request).pause, body.paused)
    return await queue(request)


@router.post("/uploads", status_code=201)
async def upload(
    request: Request, content: Annotated[bytes, Body(media_type="application/octet-stream")]
) -> dict[str, Any]:
    """Send a picture's file; jobs name it by the id."""
    id, size = await asyncio.to_thread(service_of(request).uploads.add, content)
    return {"id": id, "width": size.width, "height": size.height}


@router.get("/uploads/{id}", response_class=FileResponse)
async def uploaded(request: Request, id: str) -> FileResponse:
    """The file of an upload, as it was sent."""
    path = service_of(request).uploads.path(id)
    if path is None:
        raise HTTPException(404, f"there is no upload {id!r}")
    return FileResponse(path, media_type="application/octet-stream", headers=IMMUTABLE, filename=id)


@router.get("/pictures", responses=answered(listed([PICTURE])))
async def pictures(request: Request, limit: Limit = 50, before: str | None = None) -> dict[str, Any]:
    """The newest pictures first, each with the request that repeats it."""
    found = await asyncio.to_thread(service_of(request).store.pictures, limit, before)
    return listed([picture.shown() for picture in found])


@router.get("/pictures/{id}.{form}", response_class=Response)
async def picture(request: Request, id: str, form: Literal["png", "jpeg", "jpg", "webp"]) -> Response:
    """A picture's file, its parameters inside."""
    service = service_of(request)
    record = await asyncio.to_thread(service.store.picture, id)
    if record is None or service.picture_path(id) is None:
        raise HTTPException(404, f"there is no picture {id!r}")
    content = await asyncio.to_thread(form_bytes, service, record, form)
    headers = {**IMMUTABLE, "content-disposition": f'inline; filename="{id}.{form}"'}
    return Response(content, media_type=f"image/{'jpeg' if form == 'jpg' else form}", headers=headers)


@router.get("/pictures/{id}/thumbnail", response_class=Response)
async def picture_thumbnail(request: Request, id: str, side: Side = 256) -> Response:
    """A small JPEG of a picture, for galleries."""
    service = service_of(request)
    record = await asyncio.to_thread(service.store.picture, id)
    if record is None or service.picture_path(id) is None:
        raise HTTPException(404, f"there is no picture {id!r}")
    content = await asyncio.to_thread(thumbnail, service, record, side)
    return Response(content, media_type="image/jpeg", headers=IMMUTABLE)


@router.get("/pictures/{id}/request")
async def picture_request(request: Request, id: str) -> dict[str, Any]:
    """What to send to /v1/jobs for the same picture."""
    store = service_of(request).store
    found = await asyncio.to_thread(store.picture, id)
    if found is None:
        raise HTTPException(404, f"there is no picture {id!r}")
    again = {"model": found.model, "request": dict(found.request), "images": dict(found.images)}
    job = await asyncio.to_thread(store.job, found.job)
    if job is not None and job.refiner is not None:
        again |= {"refiner": job.refiner, "switch_at": job.switch_at}
    return again


def _stream(service: Service, job: str | None, last: str | None) -> StreamingResponse:
    listener = service.events.listening(job, last)

    async def lines() -> AsyncIterator[str]:
        now = await asyncio.to_thread(service.present, job)
        for event in now if last is None or job is not None else []:
            yield event.line()
        if job is not None and all(event.data["finished"] is not None for event in now):
            service.events.drop(listener)
            return
        async for event in service.events.heard_by(listener):
            yield ": keep-alive\n\n" if event is None else event.line()
            if event is not None and job is not None and event.kind == "job" and event.data["finished"] is not None:
                return

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-store"})
