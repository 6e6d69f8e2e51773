"""AUTOMATIC1111's shape, as far as its clients use it. Options are a client's own, not the server's."""

from __future__ import annotations

import asyncio
import base64
import time
from io import BytesIO
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from darkroom import __version__
from darkroom.errors import InputError, printable
from darkroom.serve.a1111_fields import ImageToImage, TextToImage, info
from darkroom.serve.a1111_pictures import UPSCALERS, resized
from darkroom.serve.answers import client_of, drawn, form_bytes, picture_text, service_of
from darkroom.serve.examples import PIXEL
from darkroom.serve.intake import decoded_base64
from darkroom.serve.jobs import Job, Submission
from darkroom.serve.service import Service
from darkroom.types import Size

__all__ = ["router"]

router = APIRouter(prefix="/sdapi/v1")
internal = APIRouter(prefix="/internal")
EMPTY = ("sd-vae", "sd-modules", "prompt-styles", "hypernetworks", "face-restorers", "script-info")

# What "extras" can do elsewhere: refused where it says more than this.
WITHOUT_IN_EXTRAS = {
    "gfpgan_visibility": (None, 0),
    "codeformer_visibility": (None, 0),
    "upscaler_2": (None, "", "None"),
    "extras_upscaler_2_visibility": (None, 0),
}


class PngBody(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"image": PIXEL}]})
    image: str


class EnlargeBody(BaseModel):
    model_config = ConfigDict(  # also faces and a second upscaler, which are at 0 unless said
        extra="allow",
        json_schema_extra={"examples": [{"image": PIXEL, "upscaling_resize": 2, "upscaler_1": "Lanczos"}]},
    )
    image: str
    resize_mode: int = Field(0, ge=0, le=1, description="0: by upscaling_resize, 1: to the width and height.")
    upscaling_resize: float = Field(2.0, gt=0, le=16)
    upscaling_resize_w: int = Field(512, ge=1, le=8192)
    upscaling_resize_h: int = Field(512, ge=1, le=8192)
    upscaler_1: str = "None"

    def target(self, size: Size) -> Size:
        """What a picture of `size` becomes."""
        if self.resize_mode == 1:
            return Size(self.upscaling_resize_h, self.upscaling_resize_w)
        return Size(round(size.height * self.upscaling_resize), round(size.width * self.upscaling_resize))


class TaskBody(BaseModel):
    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"id_task": "task(0123456789)"}]})
    id_task: str
    live_preview: bool = True


@router.post("/txt2img")
async def text_to_image(request: Request, body: TextToImage) -> dict[str, Any]:
    """Draw pictures of a prompt."""
    return await _drawn(request, body)


@router.post("/img2img")
async def image_to_image(request: Request, body: ImageToImage) -> dict[str, Any]:
    """Draw over a picture, or repaint what a mask shows white."""
    return await _drawn(request, body)


async def _drawn(request: Request, body: TextToImage) -> dict[str, Any]:
    service, client = service_of(request), client_of(request)
    override = body.override_settings or {}
    model = override.get("sd_model_checkpoint") or service.options(client).get("sd_model_checkpoint")
    asked = Submission(
        model=_model_name(service, model),
        request=await asyncio.to_thread(body.settings),
        count=body.count,
        client=client,
        key=body.force_task_id,
        refiner=None
        if body.refiner_checkpoint in (None, "", "None")
        else _model_name(service, body.refiner_checkpoint),
        switch_at=0.8 if body.refiner_switch_at is None else body.refiner_switch_at,
    )
    job, records = await drawn(request, asked)
    texts = [await asyncio.to_thread(picture_text, service, record) for record in records]
    images = [await asyncio.to_thread(form_bytes, service, record) for record in records] if body.send_images else []
    return {
        "images": [base64.b64encode(image).decode() for image in images],
        "parameters": body.model_dump(exclude={"init_images", "mask", "alwayson_scripts"}),
        "info": info(job, records, texts, job.model, f"darkroom {__version__}"),
    }


def _model_name(service: Service, said: Any) -> str:
    """The model that a title, a name or `name.safetensors [hash]` means."""
    name = str(said or "").partition(" [")[0]
    for known in service.residents.known:
        if name == known or name.rpartition(".")[0] == known:
            return known
    return service.residents.name(name)


@router.get("/options")
async def options(request: Request) -> dict[str, Any]:
    """The client's options; the model among them is used where a request names none."""
    service = service_of(request)
    usual = {"sd_model_checkpoint": service.residents.name(None), "sd_vae": "Automatic", "CLIP_stop_at_last_layers": 1}
    return {**usual, "samples_format": "png", **service.options(client_of(request))}


@router.post("/options")
async def set_options(request: Request, body: dict[str, Any]) -> None:
    """Set some of them. Only the model changes what is drawn."""
    service = service_of(request)
    if "sd_model_checkpoint" in body:
        service.options(client_of(request))["sd_model_checkpoint"] = _model_name(service, body["sd_model_checkpoint"])


@router.get("/sd-models")
async def models(request: Request) -> list[dict[str, Any]]:
    """The models that can be asked for."""
    return [
        {"title": name, "model_name": name, "hash": None, "sha256": None, "filename": name, "config": None}
        for name in service_of(request).residents.known
    ]


@router.get("/samplers")
async def samplers() -> list[dict[str, Any]]:
    """The samplers."""
    from darkroom.library import sampler_names

    return [{"name": n, "aliases": [], "options": {}} for n in await asyncio.to_thread(sampler_names)]


@router.get("/schedulers")
async def schedulers() -> list[dict[str, Any]]:
    """The schedules of noise levels."""
    from darkroom.library import schedule_names

    names = await asyncio.to_thread(schedule_names)
    return [{"name": n, "label": n, "aliases": [], "default_rho": -1, "need_inner_model": False} for n in names]


@router.get("/loras")
async def loras(request: Request) -> list[dict[str, Any]]:
    """The LoRAs that prompts may name."""
    names = await asyncio.to_thread(service_of(request).lora_names)
    return [{"name": n, "alias": n, "path": n, "metadata": {}} for n in names]


@router.get("/embeddings")
async def embeddings(request: Request) -> dict[str, Any]:
    """The embeddings that prompts may name."""
    names = await asyncio.to_thread(service_of(request).embedding_names)
    return {"loaded": {n: {"step": None, "shape": None, "vectors": None} for n in names}, "skipped": {}}


@router.get("/latent-upscale-modes")
async def latent_upscale_modes() -> list[dict[str, str]]:
    """How latents are enlarged for a second pass."""
    return [{"name": "Latent"}]


@router.get("/upscalers")
async def upscalers() -> list[dict[str, Any]]:
    """What enlarges pictures without a network; models of super-resolution draw, as other models do."""
    return [{"name": n, "model_name": None, "model_path": None, "model_url": None, "scale": 4} for n in UPSCALERS]


@router.post("/extra-single-image")
async def enlarge(request: Request, body: EnlargeBody) -> dict[str, Any]:
    """Resize a picture."""
    for name, value in (body.model_extra or {}).items():
        if value not in WITHOUT_IN_EXTRAS.get(name, (value,)):
            raise InputError(f"{name} is {printable(value)}, which this server does not do")
    most = service_of(request).config.limits.pixels
    image = await asyncio.to_thread(resized, body.image, "image", body.upscaler_1, body.target, most)
    return {"html_info": "", "image": image}


@router.get("/scripts")
async def scripts() -> dict[str, list[str]]:
    """What may stand in `alwayson_scripts`."""
    return {"txt2img": ["controlnet"], "img2img": ["controlnet"]}


@router.get("/cmd-flags")
async def flags() -> dict[str, Any]:
    """There are none."""
    return {}


@router.get("/memory")
async def memory() -> dict[str, Any]:
    """What the process holds, in bytes."""
    from darkroom.serve.metrics import resident_bytes

    return {"ram": {"used": resident_bytes()}, "cuda": {}}


@router.post("/refresh-checkpoints")
@router.post("/refresh-loras")
@router.post("/refresh-vae")
@router.post("/reload-checkpoint")
async def refresh() -> None:
    """Folders are read whenever they are asked about."""


@router.post("/unload-checkpoint")
async def unload(request: Request) -> None:
    """Let go of the models that nobody uses."""
    residents = service_of(request).residents
    for name in residents.known:
        residents.let_go(name)


@router.post("/png-info")
async def png_info(body: PngBody) -> dict[str, Any]:
    """The parameters that a picture carries."""
    from darkroom.pictures.picture_file import user_comment
    from darkroom.pictures.reading import opened

    def read() -> str:
        with opened(BytesIO(decoded_base64(body.image, "image")), "image") as image:
            return str(image.info.get("parameters") or user_comment(image) or "")

    text = await asyncio.to_thread(read)
    return {"info": text, "items": {"parameters": text}, "parameters": {}}


@router.get("/progress")
async def progress(request: Request, skip_current_image: bool = False) -> dict[str, Any]:
    """How far the client's own oldest job is."""
    service, job = service_of(request), await _current(request)
    image = None
    if job is not None and not skip_current_image:
        image = await asyncio.to_thread(service.worker.preview, job.id)
    share, left, step, steps = _share(service, job)  # after the picture, which would else show more than is told
    return {
        "progress": share,
        "eta_relative": left,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": "" if job is None else job.id,
            "job_count": 0 if job is None else job.count,
            "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(0 if job is None else job.created)),
            "job_no": 0,
            "sampling_step": step,
            "sampling_steps": steps,
        },
        "current_image": None if image is None else base64.b64encode(image).decode(),
        "textinfo": None,
    }


@router.post("/interrupt")
@router.post("/skip")
async def interrupt(request: Request) -> dict[str, Any]:
    """Cancel the client's own oldest job."""
    if (job := await _current(request)) is not None:
        await asyncio.to_thread(service_of(request).cancel, job.id)
    return {}


async def _current(request: Request) -> Job | None:
    jobs = await asyncio.to_thread(service_of(request).store.unfinished)
    mine = [job for job in jobs if job.client == client_of(request)]
    return min(mine, key=lambda job: (job.state != "running", job.id), default=None)


def _share(service: Service, job: Job | None) -> tuple[float, float, int, int]:
    """(Share done, seconds left, steps done, steps in all)."""
    if job is None:
        return 0.0, 0.0, 0, 0
    step, steps = service.progress(job.id)
    share = step / steps if steps else 0.0
    took = 0.0 if job.started is None else time.time() - job.started
    return share, took * (1 - share) / share if share else 0.0, step, steps or 0


@internal.get("/pending-tasks")
async def pending(request: Request) -> dict[str, Any]:
    """The client's tasks that wait, by the ids that it gave them."""
    jobs = await asyncio.to_thread(service_of(request).store.unfinished)
    tasks = [job.key or job.id for job in jobs if job.client == client_of(request)]
    return {"size": len(tasks), "tasks": tasks}


@internal.post("/progress")
async def task_progress(request: Request, body: TaskBody) -> dict[str, Any]:
    """How far one task is, by the id that its client gave it."""
    service = service_of(request)
    job = await asyncio.to_thread(service.store.keyed, client_of(request), body.id_task)
    if job is None:
        raise HTTPException(404, f"there is no task {body.id_task!r}")
    image = await asyncio.to_thread(service.worker.preview, job.id) if body.live_preview else None
    share, left, _, _ = _share(service, job)
    shown = None if image is None else f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    return {
        "active": job.state == "running",
        "queued": job.state == "queued",
        "completed": job.is_over,
        "progress": 1.0 if job.is_over else share,
        "eta": left,
        "live_preview": shown,
        "id_live_preview": 0,
        "textinfo": job.error,
    }


def _add_empty(name: str) -> None:
    @router.get(f"/{name}", name=name)
    async def nothing() -> list[Any]:
        """There are none."""
        return []


for _name in EMPTY:
    _add_empty(_name)
