"""AUTOMATIC1111's shape, as its clients speak it."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import finished

from darkroom.checkpoints.model import load_model
from darkroom.engine.pipeline import Pipeline
from darkroom.engine.refine import refine
from darkroom.types import Request

CAT = {"prompt": "a red cat", "steps": 4, "seed": 3}


def png(array: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_the_walk_of_open_webui(shared_client: httpx.Client) -> None:
    """What `routers/images.py` of Open WebUI asks, in its order."""
    options = shared_client.get("/sdapi/v1/options").json()
    assert options["sd_model_checkpoint"] == "tiny"
    models = shared_client.get("/sdapi/v1/sd-models").json()
    assert [m["title"] for m in models] == ["tiny"]
    options["sd_model_checkpoint"] = models[0]["title"]
    assert shared_client.post("/sdapi/v1/options", json=options).status_code == 200
    body = {"prompt": "a red zebra", "batch_size": 2, "width": 48, "height": 32, "steps": 4, "cfg_scale": 3.0}
    body |= {"sampler_name": "Euler a", "scheduler": "Karras", "negative_prompt": "fog"}
    answer = shared_client.post("/sdapi/v1/txt2img", json=body).json()
    assert [opened(i).size for i in answer["images"]] == [(48, 32)] * 2
    info = json.loads(answer["info"])
    assert info["sampler_name"] == "Euler a"
    assert ["does not know: zebra" in remark for remark in info["remarks"]] == [True]
    assert info["all_seeds"] == [info["seed"], info["seed"] + 1]
    assert info["infotexts"][1] == opened(answer["images"][1]).info["parameters"]
    assert "Negative prompt: fog" in info["infotexts"][0]
    assert answer["parameters"]["cfg_scale"] == 3.0


def test_both_shapes_draw_the_same_picture(shared_client: httpx.Client) -> None:
    ours = shared_client.post("/sdapi/v1/txt2img", json={**CAT, "sampler_name": "Euler"}).json()["images"][0]
    body = {**CAT, "sampler": "Euler"}
    theirs = shared_client.post("/v1/images/generations", json=body).json()["data"][0]["b64_json"]
    assert ours == theirs


def test_a_picture_is_drawn_over_and_a_mask_kept(shared_client: httpx.Client) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 16:] = 255
    body = {**CAT, "init_images": [f"data:image/png;base64,{png(photo)}"], "denoising_strength": 0.9}
    over = np.asarray(opened(shared_client.post("/sdapi/v1/img2img", json=body).json()["images"][0]))
    assert over.shape == (32, 32, 3)
    body |= {"mask": png(mask), "mask_blur": 0, "resize_mode": 0, "inpainting_fill": 1, "inpainting_mask_invert": 0}
    kept = np.asarray(opened(shared_client.post("/sdapi/v1/img2img", json=body).json()["images"][0]))
    inverse = {"mask": png(255 - mask), "inpainting_mask_invert": 1, "resize_mode": 1, "width": 32, "height": 32}
    same = np.asarray(opened(shared_client.post("/sdapi/v1/img2img", json=body | inverse).json()["images"][0]))
    assert abs(same.astype(int) - kept).max() <= 1
    assert np.array_equal(kept[:, :15], photo[:, :15])
    assert not np.array_equal(kept[:, 17:], photo[:, 17:])


def test_the_masked_part_alone_is_drawn_at_the_sides_that_are_said(shared_client: httpx.Client) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    mask = np.zeros((50, 70), np.uint8)
    mask[10:30, 20:40] = 255
    body = {**CAT, "init_images": [png(photo)], "mask": png(mask), "mask_blur": 0, "width": 32, "height": 32}
    body |= {"inpaint_full_res": True, "inpaint_full_res_padding": 4, "denoising_strength": 1.0, "resize_mode": 1}
    answer = shared_client.post("/sdapi/v1/img2img", json=body).json()
    drawn = np.asarray(opened(answer["images"][0]))
    assert np.array_equal(drawn[mask == 0], photo[mask == 0])
    assert not np.array_equal(drawn[mask > 0], photo[mask > 0])
    assert "Inpaint area: Only masked, Masked area padding: 4" in json.loads(answer["info"])["infotexts"][0]
    ours = {**CAT, "image": png(photo), "mask": png(mask), "mask_padding": 4, "strength": 1, "width": 32, "height": 32}
    job = finished(shared_client, shared_client.post("/v1/jobs", json={"request": ours}).json())
    own = shared_client.get(job["pictures"][0]["url"]).content
    assert np.array_equal(drawn, np.asarray(Image.open(io.BytesIO(own))))


def test_a_second_pass_enlarges(shared_client: httpx.Client) -> None:
    body = {**CAT, "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent", "denoising_strength": 0.5}
    answer = shared_client.post("/sdapi/v1/txt2img", json={**body, "hr_second_pass_steps": 2}).json()
    assert opened(answer["images"][0]).size == (48, 48)
    sides = {"width": 32, "height": 32, "hr_resize_x": 48, "hr_resize_y": 48, "hr_scale": 2.0}
    answer = shared_client.post("/sdapi/v1/txt2img", json={**body, "hr_second_pass_steps": 2, **sides}).json()
    assert opened(answer["images"][0]).size == (48, 48)


def test_a_refiner_draws_the_end(shared_client: httpx.Client, tiny_folder: Path) -> None:
    body = {**CAT, "refiner_checkpoint": "tiny.safetensors [abc]", "refiner_switch_at": 0.5}
    answer = shared_client.post("/sdapi/v1/txt2img", json=body).json()
    assert "Refiner switch at: 0.5" in json.loads(answer["info"])["infotexts"][0]
    pipeline = Pipeline(load_model(str(tiny_folder)).model)
    request = Request("a red cat", steps=4, seed=3)
    (expected,) = [e[1].pixels for e in refine(pipeline, pipeline, [request], 0.5) if isinstance(e, tuple)]
    assert abs(np.asarray(opened(answer["images"][0])).astype(int) - expected).max() <= 1
    picture = shared_client.get("/v1/pictures", params={"limit": 1}).json()["data"][0]
    again = shared_client.get(f"/v1/pictures/{picture['id']}/request").json()
    assert (again["refiner"], again["switch_at"]) == ("tiny", 0.5)


def test_a_picture_is_enlarged_without_a_model(shared_client: httpx.Client) -> None:
    photo = png(np.random.default_rng(0).integers(0, 256, (8, 16, 3), np.uint8))
    body = {"image": photo, "upscaling_resize": 2.5, "upscaler_1": "Lanczos", "gfpgan_visibility": 0}
    answer = shared_client.post("/sdapi/v1/extra-single-image", json=body).json()
    assert opened(answer["image"]).size == (40, 20)
    for wrong in ({"upscaler_1": "R-ESRGAN 4x+"}, {"gfpgan_visibility": 0.5}, {"upscaling_resize": 16, "image": "x"}):
        assert shared_client.post("/sdapi/v1/extra-single-image", json=body | wrong).status_code == 400


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tiling": True}, "tiling is True, which this server does not do"),
        ({"alwayson_scripts": {"ADetailer": {"args": [{"ad_model": "face"}]}}}, "alwayson_scripts names ADetailer"),
        ({"enable_hr": True, "hr_upscaler": "R-ESRGAN 4x+"}, "hr_upscaler is R-ESRGAN 4x+"),
        ({"sampler_name": "Eule"}, "Eule"),
        ({"steps": 0}, "the number of steps is 0"),
        ({"prompt": "a <lora:/etc/passwd:1>"}, "/etc/passwd"),
        ({"override_settings": {"sd_model_checkpoint": "other.safetensors"}}, "unknown model"),
    ],
)
def test_what_is_not_done_is_refused(shared_client: httpx.Client, more: dict[str, Any], message: str) -> None:
    answer = shared_client.post("/sdapi/v1/txt2img", json={**CAT, **more})
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_progress_interrupt_and_tasks(client: httpx.Client) -> None:
    assert client.get("/sdapi/v1/progress").json()["progress"] == 0
    job = client.post("/v1/jobs", json={"request": {**CAT, "steps": 60}, "count": 30}, headers={"Idempotency-Key": "t"})
    end, seen = time.monotonic() + 240, client.get("/sdapi/v1/progress").json()
    while time.monotonic() < end and not seen["current_image"]:
        seen = client.get("/sdapi/v1/progress").json()
    assert 0 < seen["progress"] < 1
    assert seen["state"]["sampling_steps"] == 1800
    assert opened(seen["current_image"]).format == "JPEG"
    assert client.get("/internal/pending-tasks").json() == {"size": 1, "tasks": ["t"]}
    task = client.post("/internal/progress", json={"id_task": "t"}).json()
    assert (task["active"], task["completed"]) == (True, False)
    client.post("/sdapi/v1/interrupt")
    while time.monotonic() < end and client.get(f"/v1/jobs/{job.json()['id']}").json()["state"] != "cancelled":
        time.sleep(0.05)
    assert client.post("/internal/progress", json={"id_task": "t"}).json()["completed"] is True
    assert client.post("/internal/progress", json={"id_task": "u"}).status_code == 404


def test_lists_that_clients_ask_for(shared_client: httpx.Client) -> None:
    names = [s["name"] for s in shared_client.get("/sdapi/v1/samplers").json()]
    assert {"Euler a", "DPM++ 2M"} <= set(names)
    assert "karras" in [s["name"] for s in shared_client.get("/sdapi/v1/schedulers").json()]
    assert "Lanczos" in [u["name"] for u in shared_client.get("/sdapi/v1/upscalers").json()]
    for path in ("loras", "sd-vae", "prompt-styles", "sd-modules"):
        assert shared_client.get(f"/sdapi/v1/{path}").json() == []
    assert shared_client.get("/sdapi/v1/embeddings").json() == {"loaded": {}, "skipped": {}}
    assert shared_client.post("/sdapi/v1/refresh-checkpoints").status_code == 200
    answer = shared_client.post("/sdapi/v1/txt2img", json={**CAT, "steps": 1}).json()
    text = shared_client.post("/sdapi/v1/png-info", json={"image": answer["images"][0]}).json()["info"]
    assert text == json.loads(answer["info"])["infotexts"][0]
    metrics = shared_client.get("/metrics").text
    assert 'darkroom_requests_total{result="done"}' in metrics
    assert 'darkroom_e2e_request_latency_seconds_bucket{le="+Inf"}' in metrics
    for name in ("queue_time_seconds", "picture_seconds", "call_seconds", "call_rows"):
        assert re.search(rf"^darkroom_(request_)?{name}_count [1-9]", metrics, re.MULTILINE), name
