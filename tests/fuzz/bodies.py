"""Cases for the server: bodies of every shape that it speaks, its queries and its paths, in this process."""

from __future__ import annotations

import asyncio
import base64
import io
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from narrow_checkpoints import random_model
from PIL import Image
from serving import loader

from darkroom.checkpoints.native import save_system
from darkroom.errors import InputError
from darkroom.serve.app import make_app
from darkroom.serve.guard import GuardConfig
from darkroom.serve.intake import Limits
from darkroom.serve.service import Service, ServiceConfig
from tests.fuzz.mutation import NASTY, json_bytes, mutate_bytes, mutate_text
from tests.fuzz.run import Case

__all__ = ["bodies"]

PROMPT = "a (cat:1.2) [b|c] AND a dog :0.5"
OWN: dict[str, Any] = {
    "model": "narrow", "count": 2, "priority": 1, "deadline": 60.0, "exact": True, "images": {},
    "request": {
        "prompt": PROMPT, "seed": 4, "steps": 2, "width": 64, "height": 64, "guidance_scale": 5, "sampler": "euler",
        "schedule": "karras", "hires": {"scale": 2.0}, "regions": [], "negative_prompt": "fog",
    },
}  # fmt: skip
OPENAI = {
    "prompt": PROMPT, "model": "narrow", "n": 2, "size": "64x64", "response_format": "b64_json", "quality": "low",
    "stream": False, "output_format": "png", "seed": 3, "steps": 2,
}  # fmt: skip
A1111 = {
    "prompt": PROMPT, "negative_prompt": "fog", "steps": 2, "cfg_scale": 7, "width": 64, "height": 64, "seed": 1,
    "sampler_name": "Euler a", "scheduler": "Karras", "batch_size": 1, "n_iter": 1, "override_settings": {},
    "denoising_strength": 0.5, "enable_hr": True, "hr_scale": 2, "alwayson_scripts": {}, "styles": [],
}  # fmt: skip


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (1, 90, 200)).save(file, "PNG")
    return file.getvalue()


def bodies(folder: Path) -> Case:
    """What would be drawn is told that the queue is full (429): what is checked, and nothing else, happens here."""
    save_system(random_model("sd-v1-5"), folder / "narrow", {})
    limits = Limits(queue=0, pixels=256 * 256, steps=20, count=4)
    service = Service(ServiceConfig(folder / "server", limits=limits, drain=0.0), {"narrow": loader(folder / "narrow")})
    service.residents.prepare("narrow")
    while service.residents.there("narrow") is None:
        pass
    transport = httpx.ASGITransport(make_app(service, GuardConfig({"token": "me"}, rate=1e9)))
    client = httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers={"Authorization": "Bearer token"}
    )
    loop, picture = asyncio.new_event_loop(), _png()
    encoded = base64.b64encode(picture).decode()
    posts: list[tuple[str, dict[str, Any]]] = [
        ("/v1/jobs", OWN),
        ("/v1/images/generations", OPENAI),
        ("/sdapi/v1/txt2img", A1111),
        ("/sdapi/v1/img2img", {**A1111, "init_images": [encoded], "mask": encoded, "inpainting_fill": 1}),
        ("/sdapi/v1/png-info", {"image": encoded}),
        ("/sdapi/v1/options", {"CLIP_stop_at_last_layers": 2, "sd_model_checkpoint": "narrow"}),
        ("/internal/progress", {"id_task": "x", "id_live_preview": 1}),
        ("/v1/queue", {"paused": False}),
        ("/v1/jobs/x/move", {"before": None}),
    ]
    paths = ("/v1/jobs/{}", "/v1/pictures/{}.png", "/v1/pictures/{}/request", "/v1/uploads/{}", "/v1/models/{}")
    paths += ("/v1/jobs?limit={}", "/v1/jobs?before={}&state={}", "/v1/pictures?limit={}", "/{}", "/v1/jobs/{}/events")

    def request(rng: random.Random) -> httpx.Request:
        kind = rng.randrange(10)
        if kind < 6:
            path, body = rng.choice(posts)
            content = json_bytes(body, rng)
            return client.build_request("POST", path, content=content, headers={"Content-Type": "application/json"})
        if kind == 6:
            path = rng.choice(paths).format(
                *[quote(rng.choice((*NASTY, "1" * 99, "-1", "queued")), errors="replace")] * 2
            )
            return client.build_request(rng.choice(("GET", "DELETE", "HEAD")), path[:9000])
        if kind == 7:
            content = mutate_bytes(picture, rng)
            return client.build_request("POST", "/v1/uploads", content=content, headers={"Content-Type": "image/png"})
        form = {
            key: mutate_text(str(value), rng) if rng.random() < 0.3 else str(value) for key, value in OPENAI.items()
        }
        form = {key: value.encode("utf-8", "replace").decode() for key, value in form.items()}
        files = {"image": ("a.png", mutate_bytes(picture, rng) if rng.random() < 0.5 else picture, "image/png")}
        path = f"/v1/images/{rng.choice(('edits', 'variations'))}"
        made = client.build_request("POST", path, data=form, files=files)
        if kind == 8:
            return made
        return client.build_request("POST", path, content=mutate_bytes(made.read(), rng), headers=made.headers)

    def case(rng: random.Random) -> None:
        asked = request(rng)
        answer = loop.run_until_complete(asyncio.wait_for(client.send(asked), 60))
        assert answer.status_code < 500, f"{answer.status_code}: {answer.text[:200]}"
        if answer.status_code < 400 or not answer.content:
            return
        said = answer.json()
        message = said["error"]["message"] if "error" in said else said["detail"]
        assert isinstance(message, str)
        assert message.isprintable(), repr(message[:200])
        raise InputError(message)

    return case
