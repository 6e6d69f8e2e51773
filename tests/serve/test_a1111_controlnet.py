"""Control units over HTTP: in the server's own shape and in AUTOMATIC1111's, to the library's pixels."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import finished

from darkroom.checkpoints.model import load_model
from darkroom.library import Model
from darkroom.types import ControlUnit

CAT = {"prompt": "a red cat", "steps": 2, "seed": 3}
HINT = np.kron(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


def png(array: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture(scope="module")
def expected(tiny_folder: Path, control_folder: Path) -> np.ndarray:
    model = Model(load_model(str(tiny_folder)), control_folders=[control_folder])
    unit = ControlUnit("edges", HINT, weight=0.5, end=0.9, preprocessor="canny")
    drawn = model.draw(**CAT, controls=[unit]).pixels
    assert not np.array_equal(drawn, model.draw(**CAT).pixels)
    return drawn


def test_a_job_with_a_control_unit_can_be_repeated(shared_client: httpx.Client, expected: np.ndarray) -> None:
    assert shared_client.get("/v1/controls").json()["data"] == ["edges"]
    unit = {"model": "edges", "weight": 0.5, "end": 0.9, "preprocessor": "canny"}
    body = {"request": {**CAT, "controls": [{**unit, "image": png(HINT)}]}, "exact": True}
    done = finished(shared_client, shared_client.post("/v1/jobs", json=body).json())
    assert done["request"]["controls"] == [unit]
    assert np.array_equal(pixels(shared_client.get(done["pictures"][0]["url"]).content), expected)
    again = shared_client.get(f"/v1/pictures/{done['pictures'][0]['id']}/request").json()
    assert list(again["images"]) == ["controls.0.image"]
    repeated = finished(shared_client, shared_client.post("/v1/jobs", json={**again, "exact": True}).json())
    assert np.array_equal(pixels(shared_client.get(repeated["pictures"][0]["url"]).content), expected)


def test_units_of_a1111(shared_client: httpx.Client, expected: np.ndarray) -> None:
    """As the Photoshop plug-in and Forge's clients send them, one that is switched off among them."""
    assert shared_client.get("/controlnet/model_list").json() == {"model_list": ["edges"]}
    assert "canny" in shared_client.get("/controlnet/module_list").json()["module_list"]
    unit = {"enabled": True, "module": "canny", "model": "edges [d14c016b]", "weight": 0.5, "image": png(HINT)}
    unit |= {"resize_mode": "Just Resize", "low_vram": False, "processor_res": 512, "threshold_a": 100}
    unit |= {"guidance_start": 0.0, "guidance_end": 0.9, "control_mode": 0, "pixel_perfect": True, "mask": None}
    off = {"enabled": False, "module": "depth_midas", "model": "None"}
    body = {**CAT, "width": 32, "height": 32, "alwayson_scripts": {"ControlNet": {"args": [off, unit]}}}
    answer = shared_client.post("/sdapi/v1/txt2img", json=body).json()
    found = pixels(base64.b64decode(answer["images"][0])).astype(int)
    assert abs(found - expected).max() <= 1
    assert "ControlNet 0" in answer["info"]
    detected = {"controlnet_module": "canny", "controlnet_input_images": [png(HINT)]}
    hint = shared_client.post("/controlnet/detect", json=detected).json()["images"][0]
    assert set(np.unique(pixels(base64.b64decode(hint)))) == {0, 255}


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ({"model": "None"}, "a control unit names no model"),
        ({"model": "/etc/passwd"}, "unknown control network '/etc/passwd'"),
        ({"control_mode": "My prompt is more important"}, "known are: balanced, controlnet is more important"),
        ({"resize_mode": 2}, "Resize and Fill, which this server does not do"),
        ({"module": "depth_midas"}, "depth_midas"),
        ({"module": "canny", "threshold_a": 50}, "threshold_a of a control unit is 50"),
        ({"image": None}, "controls.0.image is not given"),
        ({"effective_region_mask": "x"}, "effective_region_mask"),
        ({"strange": 1}, "unknown field strange of a control unit"),
        ({"weight": "much"}, "weight"),
    ],
)
def test_what_units_cannot_ask(shared_client: httpx.Client, unit: dict[str, Any], message: str) -> None:
    unit = {"model": "edges", "image": png(HINT), **unit}
    body = {**CAT, "alwayson_scripts": {"controlnet": {"args": [unit]}}}
    answer = shared_client.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]
