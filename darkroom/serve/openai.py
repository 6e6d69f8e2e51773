"""OpenAI's shape of pictures: generations, edits, variations, streams of partial pictures."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile

from darkroom.errors import InputError, require
from darkroom.json_file import parse_json
from darkroom.requests.settings import find_setting
from darkroom.serve.answers import client_of, drawn, failed, form_bytes, gone, service_of, settings_of
from darkroom.serve.jobs import Job, PictureRecord, Submission, remarks_of
from darkroom.serve.service import Service
from darkroom.serve.uploads import PICTURES

__all__ = ["router"]

SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]
EDIT_FORM = {
    "type": "object",
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "format": "binary", "description": "The picture."},
        "mask": {"type": "string", "format": "binary", "description": "Repaint where it is transparent."},
        "prompt": {"type": "string", "examples": ["a snowman with a green hat"]},
        "model": {"type": "string"},
        "n": {"type": "integer", "minimum": 1},
        "size": {"type": "string", "examples": ["auto", "128x128"]},
        "response_format": {"type": "string", "enum": ["b64_json", "url"]},
        "output_format": {"type": "string", "enum": ["png", "jpeg", "webp"]},
        "stream": {"type": "boolean"},
        "partial_images": {"type": "integer", "minimum": 0, "maximum": 3},
    },
}


class ImageBody(BaseModel):
    """What OpenAI's fields mean here; every setting of /v1/schema may stand beside them by its name."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"prompt": "a snowman with a green hat", "size": "128x128"}]}
    )
    prompt: str = ""
    model: str | None = None
    n: int | None = Field(1, ge=1, le=64)
    size: str | None = Field("auto", description="WIDTHxHEIGHT, or auto: the model's.")
    response_format: Literal["b64_json", "url"] | None = "b64_json"
    output_format: Literal["png", "jpeg", "webp"] | None = "png"
    output_compression: int | None = Field(None, ge=0, le=100, description="Quality of jpeg and webp.")
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = Field(
        "auto", description="Accepted; the number of steps is a setting of its own."
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field("auto", description="Pictures are opaque.")
    moderation: Literal["auto", "low"] | None = Field("auto", description="Accepted; nothing is moderated here.")
    style: Literal["vivid", "natural"] | None = Field(None, description="Accepted; say it in the prompt.")
    input_fidelity: Literal["low", "high"] | None = Field(None, description="Accepted; `strength` says how much stays.")
    user: str | None = Field(None, max_length=64, description="Whose share of the queue it is.")
    stream: bool | None = False
    partial_images: int | None = Field(0, ge=0, le=3)

    def settings(self) -> dict[str, Any]:
        """The request's settings."""
        require(self.background != "transparent", "background", "transparent", "opaque or auto")
        settings = {"prompt": self.prompt, **settings_of(self.model_extra or {})}
        if self.size not in (None, "auto"):
            found = SIZE.fullmatch(self.size)
            if found is None:
                raise InputError(f"size is {self.size!r}, expected is auto or WIDTHxHEIGHT, such as 512x512")
            settings |= {"width": int(found[1]), "height": int(found[2])}
        return settings

    @property
    def file_quality(self) -> int:
        return 95 if self.output_compression is None else self.output_compression


router = APIRouter(prefix="/v1")


@router.post("/images/generations", response_model=None)
async def generations(request: Request, body: ImageBody, key: Key = None) -> JSONResponse | StreamingResponse:
    """Draw `n` pictures of a prompt."""
    return await _answer(request, body, {}, key, "image_generation")


@router.post(
    "/images/edits",
    response_model=None,
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": EDIT_FORM}}, "required": True}},
)
async def edits(request: Request, key: Key = None) -> JSONResponse | StreamingResponse:
    """Repaint a picture: what the mask leaves transparent, else what the picture itself does, else all of it."""
    body, pictures = await _form(request)
    if "mask" not in pictures and await asyncio.to_thread(_is_transparent, pictures["image"]):
        pictures["mask"] = pictures["image"]
    return await _answer(request, body, pictures, key, "image_edit")


@router.post(
    "/images/variations",
    response_model=None,
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"schema": EDIT_FORM}}, "required": True}},
)
async def variations(request: Request, key: Key = None) -> JSONResponse | StreamingResponse:
    """Pictures like a picture: by its image embedding where the model reads one, else drawn over."""
    body, pictures = await _form(request)
    service = service_of(request)
    resident = service.residents.there(service.residents.name(body.model))
    if resident is not None and "image_prompt" in resident.loaded.model.conditioner.embedders:
        pictures = {"inputs.image_prompt": pictures["image"]}
    return await _answer(request, body, pictures, key, "image_edit")


async def _form(request: Request) -> tuple[ImageBody, dict[str, bytes]]:
    """The fields of a multipart body, and the pictures in it."""
    async with request.form(max_files=4, max_fields=100, max_part_size=1 << 20) as form:
        values: dict[str, Any] = {}
        pictures: dict[str, bytes] = {}
        for name, value in form.multi_items():
            place = name.removesuffix("[]")
            if isinstance(value, UploadFile):
                if place not in ("image", "mask") or place in pictures:
                    raise InputError(f"{name} is one picture too many; expected are one image and one mask")
                pictures[place] = await value.read()
            else:
                values[place] = value
    if "image" not in pictures:
        raise InputError("image is missing; expected is a picture's file in multipart/form-data")
    try:
        plain = {name: _typed(name, value) for name, value in values.items()}
        return ImageBody.model_validate(plain), pictures
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]}: {first['msg']}") from None


def _typed(name: str, value: str) -> Any:
    """A form's text as the value that a setting has; OpenAI's own fields are read by their types. No path is opened."""
    if name in ImageBody.model_fields or (setting := find_setting(name)).kind in PICTURES:
        return value
    return parse_json(value, "the text of the boxes") if setting.kind == "boxes" else setting.read(value)


async def _answer(
    request: Request, body: ImageBody, pictures: dict[str, bytes], key: str | None, kind: str
) -> JSONResponse | StreamingResponse:
    service = service_of(request)
    images = {path: (await asyncio.to_thread(service.uploads.add, content))[0] for path, content in pictures.items()}
    asked = Submission(
        model=body.model or "",
        request={"seed": -1, **body.settings()},
        images=images,
        count=body.n or 1,
        client=client_of(request, body.user),
        key=key,
    )
    if body.stream:
        job = await asyncio.to_thread(service.submit, asked)
        stream = _stream(request, service, body, job, kind)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})
    job, records = await drawn(request, asked)
    data = [await asyncio.to_thread(_picture, request, service, body, record) for record in records]
    answer = {"created": int(job.created), "data": data, **_described(body, records), "usage": _usage(job, records)}
    return JSONResponse(answer, headers={"x-job-id": job.id})


def _picture(request: Request, service: Service, body: ImageBody, record: PictureRecord) -> dict[str, Any]:
    prompt = str(record.request.get("prompt", ""))
    form = body.output_format or "png"
    if body.response_format == "url":
        return {"url": f"{request.base_url}v1/pictures/{record.id}.{form}", "revised_prompt": prompt}
    content = form_bytes(service, record, form, body.file_quality)
    return {"b64_json": base64.b64encode(content).decode(), "revised_prompt": prompt}


def _described(body: ImageBody, records: list[PictureRecord]) -> dict[str, Any]:
    size = f"{records[0].width}x{records[0].height}" if records else body.size
    shown = {"size": size, "quality": body.quality, "background": "opaque", "output_format": body.output_format}
    said = remarks_of(records)
    return {**shown, "remarks": said} if said else shown


def _usage(job: Job, records: list[PictureRecord]) -> dict[str, Any]:
    """Words of the prompt in, blocks of 8 by 8 pixels out: a measure of size, since nothing is charged for."""
    words = len(f"{job.request.get('prompt', '')} {job.request.get('negative_prompt', '')}".split())
    blocks = sum(r.width * r.height // 64 for r in records)
    details = {"text_tokens": words, "image_tokens": 0}
    return {
        "input_tokens": words,
        "output_tokens": blocks,
        "total_tokens": words + blocks,
        "input_tokens_details": details,
    }


async def _stream(request: Request, service: Service, body: ImageBody, job: Job, kind: str) -> AsyncIterator[str]:
    """`partial_images` previews at most, then each picture whole; an error as an event of that name."""
    complete = False
    partial, most = 0, body.partial_images or 0
    listener = service.events.listening(job.id, kinds=("job", "preview") if most else ("job",))
    try:
        now = await asyncio.to_thread(service.store.job, job.id) or job
        if not now.is_over:
            async for event in service.events.heard_by(listener):
                if event is None:
                    yield ": keep-alive\n\n"
                elif event.kind == "preview" and partial < most:
                    shown = {"b64_json": event.data["image"].partition(",")[2], "partial_image_index": partial}
                    yield _line(f"{kind}.partial_image", {**shown, **_moment(body, []), "output_format": "jpeg"})
                    partial += 1
                elif event.kind == "job" and event.data["finished"] is not None:
                    break
        now = await asyncio.to_thread(service.store.job, job.id) or now
        if now.state != "done":
            error: HTTPException = failed(now)
            message = {"message": error.detail, "type": "server_error", "code": now.code, "param": None}
            complete = True
            yield _line("error", {"error": message})
            return
        for record in await asyncio.to_thread(service.store.pictures_of, job.id):
            shown = await asyncio.to_thread(_picture, request, service, body, record)
            yield _line(f"{kind}.completed", {**shown, **_moment(body, [record]), "usage": _usage(now, [record])})
        complete = True
    finally:
        service.events.drop(listener)
        if not complete:
            gone(service, job)


def _moment(body: ImageBody, records: list[PictureRecord]) -> dict[str, Any]:
    return {"created_at": int(time.time()), **_described(body, records)}


def _line(kind: str, data: dict[str, Any]) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data}, separators=(',', ':'))}\n\n"


def _is_transparent(content: bytes) -> bool:
    """Whether some of the picture can be looked through."""
    from darkroom.pictures.reading import opened

    with opened(BytesIO(content), "image") as image:
        if not image.has_transparency_data:
            return False
        low, _ = image.convert("RGBA").getchannel("A").getextrema()
        return low < 255  # type: ignore[operator]
