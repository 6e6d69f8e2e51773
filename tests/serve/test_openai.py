"""OpenAI's shape, asked by OpenAI's own client."""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

TOKEN = "a-token-for-tests"


@pytest.fixture
def api(shared_client: httpx.Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{shared_client.base_url}/v1/", api_key=TOKEN, max_retries=0) as api:
        yield api


def opened(b64: str | None) -> Image.Image:
    assert b64 is not None
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_models_are_listed(api: openai.OpenAI) -> None:
    assert [m.id for m in api.models.list()] == ["tiny"]
    assert api.models.retrieve("tiny").owned_by == "darkroom"


def test_pictures_of_a_prompt(api: openai.OpenAI, shared_client: httpx.Client) -> None:
    answer = api.images.generate(
        prompt="a red zebra", model="tiny", n=2, size="48x32", extra_body={"seed": 3, "num_inference_steps": 4}
    )
    assert answer.data is not None
    assert [opened(d.b64_json).size for d in answer.data] == [(48, 32)] * 2
    assert "does not know: zebra" in answer.model_extra["remarks"][0]  # type: ignore[index]
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 2 * 24)
    linked = api.images.generate(
        prompt="a red cat", response_format="url", output_format="webp", extra_body={"seed": 3, "steps": 4}
    )
    assert linked.data is not None
    assert "remarks" not in (linked.model_extra or {})
    url = linked.data[0].url
    assert url is not None
    content = shared_client.get(url)
    assert content.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(content.content)).format == "WEBP"
    assert httpx.get(url).status_code == 401


def test_without_a_seed_each_time_another_picture(api: openai.OpenAI) -> None:
    one, other = (api.images.generate(prompt="x", extra_body={"steps": 1}).data for _ in range(2))
    assert one is not None
    assert other is not None
    assert one[0].b64_json != other[0].b64_json


def test_a_stream_of_partial_pictures(api: openai.OpenAI) -> None:
    stream = api.images.generate(
        prompt="a red cat",
        stream=True,
        partial_images=1,
        extra_body={"steps": 12, "seed": 1},
    )
    events = list(stream)
    assert events[-1].type == "image_generation.completed"
    assert opened(events[-1].b64_json).size == (32, 32)
    assert [e.type for e in events[:-1]] in ([], ["image_generation.partial_image"])


def test_an_edit_repaints_what_is_transparent(api: openai.OpenAI) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 4), np.uint8)
    photo[..., 3] = 255
    mask = photo.copy()
    mask[:, 16:, 3] = 0
    more: dict[str, Any] = {"steps": "4", "seed": "1", "strength": "0.9"}
    answer = api.images.edit(image=("a.png", png(photo)), mask=("m.png", png(mask)), prompt="a cat", extra_body=more)
    alone = api.images.edit(image=("a.png", png(mask)), prompt="a cat", extra_body=more)
    for reply in (answer, alone):
        assert reply.data is not None
        edited = np.asarray(opened(reply.data[0].b64_json))
        assert np.array_equal(edited[:, :15], photo[:, :15, :3])
        assert not np.array_equal(edited[:, 17:], photo[:, 17:, :3])


def test_a_variation_is_drawn_over(api: openai.OpenAI) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        answer = api.images.create_variation(image=("a.png", png(photo)), extra_body={"steps": "2"})
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).size == (32, 32)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"size": "large"}, "size is 'large', expected is auto or WIDTHxHEIGHT"),
        ({"quality": "best"}, "quality"),
        ({"surprise": 1}, "unknown setting 'surprise'"),
        ({"model": "dall-e-3"}, "unknown model 'dall-e-3'; known are: tiny"),
        ({"background": "transparent"}, "background is transparent"),
    ],
)
def test_errors_have_their_form(api: openai.OpenAI, body: dict[str, Any], message: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        api.images.generate(prompt="x", extra_body=body)
    assert message in error.value.message
    assert error.value.type == "invalid_request_error"


def test_a_form_opens_no_path(api: openai.OpenAI) -> None:
    photo = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(openai.BadRequestError, match="target is not valid base64"):
        api.images.edit(image=("a.png", png(photo)), prompt="x", extra_body={"target": "/etc/passwd"})


def test_a_client_that_goes_away_leaves_no_work_behind(shared_client: httpx.Client) -> None:
    def newest() -> list[dict[str, Any]]:
        return shared_client.get("/v1/jobs", params={"limit": 3}).json()["data"]

    def ids() -> list[str]:
        return [job["id"] for job in newest()]

    def ask_and_go(body: dict[str, Any], more: Mapping[str, str]) -> None:
        """Goes away as soon as the job is there."""
        before = ids()
        connection = http.client.HTTPConnection(shared_client.base_url.host, shared_client.base_url.port)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **more}
        connection.request("POST", "/v1/images/generations", json.dumps(body), headers)
        while ids() == before:
            time.sleep(0.02)
        connection.close()

    body = {"prompt": "a cat", "steps": 60, "n": 40}
    ask_and_go(body, {})
    with shared_client.stream("POST", "/v1/images/generations", json={**body, "stream": True}):
        pass
    ask_and_go({**body, "n": 1, "steps": 8}, {"Idempotency-Key": "mine"})
    end = time.monotonic() + 240
    states = []
    while time.monotonic() < end and states != ["done", "cancelled", "cancelled"]:
        states = [job["state"] for job in newest()]
        time.sleep(0.05)
    assert states == ["done", "cancelled", "cancelled"]
