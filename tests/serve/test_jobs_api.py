"""The server's own shape, over a real socket."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import TOKEN, finished

from darkroom.checkpoints.model import load_model
from darkroom.cli.handover import ServedModel
from darkroom.errors import InputError
from darkroom.library import Model
from darkroom.requests.change import changed
from darkroom.serve.announcement import Announcement
from darkroom.types import Request

CAT = {"prompt": "a red cat", "seed": 3, "steps": 4}


def pixels(client: httpx.Client, picture: dict[str, Any]) -> np.ndarray:
    answer = client.get(picture["url"])
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_examples_in_the_description_are_of_the_shape_of_answers(shared_client: httpx.Client) -> None:
    paths = shared_client.get("/openapi.json").json()["paths"]

    def example(method: str, path: str, status: str = "200") -> dict[str, Any]:
        return paths[path][method]["responses"][status]["content"]["application/json"]["example"]

    def told(answer: Iterable[str]) -> set[str]:
        """What is always there: the description leaves null out, and these two come and go with the moment."""
        return set(answer) - {"position", "steps"}

    def there(answer: dict[str, Any]) -> set[str]:
        return told(name for name, value in answer.items() if value is not None)

    submitted = shared_client.post("/v1/jobs", json={"request": {**CAT, "steps": 1}}).json()
    done, shown = finished(shared_client, submitted), example("get", "/v1/jobs/{id}")
    assert there(submitted) <= told([*example("post", "/v1/jobs", "202"), *shown])
    assert there(done) == told(shown)
    assert there(done["pictures"][0]) == told(shown["pictures"][0])
    assert there(shared_client.get("/v1/models/tiny").json()) == told(example("get", "/v1/models/{id}"))
    assert there(shared_client.get("/v1/queue").json()) == told(example("get", "/v1/queue"))
    changed(Request(), shown["request"])


def test_a_job_gives_the_pictures_of_the_library(shared_client: httpx.Client, tiny_folder: Any) -> None:
    answer = shared_client.post("/v1/jobs", json={"request": CAT, "count": 2, "exact": True})
    assert answer.status_code == 202
    job = answer.json()
    assert (job["state"], job["model"], job["request"]) == ("queued", "tiny", CAT)
    done = finished(shared_client, job)
    assert done["state"] == "done"
    assert [p["seed"] for p in done["pictures"]] == [3, 4]
    model = Model(load_model(str(tiny_folder)))
    for picture in done["pictures"]:
        expected = model.draw(Request("a red cat", seed=picture["seed"], steps=4))
        content = shared_client.get(picture["url"]).content
        image = Image.open(io.BytesIO(content))
        assert np.array_equal(np.asarray(image), expected.pixels)
        assert image.info["parameters"] == expected.parameters
        small = shared_client.get(f"/v1/pictures/{picture['id']}/thumbnail", params={"side": 16})
        assert Image.open(io.BytesIO(small.content)).size == (16, 16)
        assert small.headers["content-type"] == "image/jpeg"
        again = shared_client.get(f"/v1/pictures/{picture['id']}/request").json()
        assert again["request"]["sampler"] == expected.plan.sampler
        repeated = finished(shared_client, shared_client.post("/v1/jobs", json={**again, "exact": True}).json())
        assert shared_client.get(repeated["pictures"][0]["url"]).content == content
    listed = shared_client.get("/v1/pictures", params={"limit": 2}).json()["data"]
    older = shared_client.get("/v1/pictures", params={"before": listed[-1]["id"]}).json()["data"]
    assert len(listed) == 2
    assert {p["id"] for p in done["pictures"]} <= {p["id"] for p in listed + older}


def test_a_served_model_draws_in_the_place_of_a_pipeline(shared_client: httpx.Client, tiny_folder: Any) -> None:
    server = Announcement(str(shared_client.base_url), TOKEN, 0, {}, (), (), (), "cpu", "auto")
    requests = [Request("a red cat", seed=i, steps=1) for i in range(5)]
    drawn = dict(ServedModel(server, "tiny").run(requests, batch_size=1))
    alone = Model(load_model(str(tiny_folder)))
    for i, request in enumerate(requests):
        assert np.array_equal(drawn[i].pixels, alone.draw(request).pixels)
    before = len(shared_client.get("/v1/jobs", params={"limit": 1000}).json()["data"])
    wrong = [Request("x", width=33), *requests]
    with pytest.raises(InputError, match="width is 33"):
        list(ServedModel(server, "tiny").run(wrong))
    assert len(shared_client.get("/v1/jobs", params={"limit": 1000}).json()["data"]) == before


def test_uploads_become_the_pictures_of_a_request(shared_client: httpx.Client, tiny_folder: Any) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    mask = np.zeros((32, 48), np.uint8)
    mask[8:20, 8:30] = 255
    init, cover = (shared_client.post("/v1/uploads", content=png(a)).json() for a in (photo, mask))
    assert (init["width"], init["height"]) == (48, 32)
    body = {"request": {**CAT, "strength": 0.6}, "images": {"init": init["id"], "mask": cover["id"]}, "exact": True}
    done = finished(shared_client, shared_client.post("/v1/jobs", json=body).json())
    expected = Model(load_model(str(tiny_folder))).draw(**CAT, strength=0.6, image=photo, mask=mask // 255)
    assert np.array_equal(pixels(shared_client, done["pictures"][0]), expected.pixels)
    assert done["images"] == {"image": init["id"], "mask": cover["id"]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"request": {"promt": "x"}}, "unknown setting 'promt'"),
        ({"request": {"steps": "many"}}, 'steps is "many"'),
        ({"request": {"steps": 61}}, "the number of steps is 61, expected is at most 60 on this server"),
        ({"request": {"width": 256, "height": 128}}, "the number of pixels is 32768"),
        ({"request": {"width": 33}}, "width is 33"),
        ({"request": CAT, "count": 0}, "the number of pictures is 0"),
        ({"request": CAT, "model": "../../etc/passwd"}, "unknown model"),
        ({"request": {"image": "/etc/passwd"}}, "image is not valid base64"),
        ({"request": CAT, "images": {"init": "../jobs.db"}}, "there is no upload"),
        ({"request": CAT, "images": {"prompt": "x"}}, "takes no picture"),
        ({"request": CAT, "surprise": 1}, "surprise"),
        ({"request": {**CAT, "strength": 0.5}}, "strength says nothing without image"),
    ],
)
def test_bad_input_is_one_sentence(shared_client: httpx.Client, body: dict[str, Any], message: str) -> None:
    while shared_client.get("/v1/models").json()["data"][0]["state"] != "loaded":
        time.sleep(0.02)
    answer = shared_client.post("/v1/jobs", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_a_loaded_model_says_what_it_can_do(shared_client: httpx.Client) -> None:
    while (model := shared_client.get("/v1/models").json()["data"][0])["state"] != "loaded":
        time.sleep(0.02)
    assert model["tasks"] == ["text to image", "image to image", "inpainting"]
    assert "prompt" in model["inputs"]


def test_what_is_no_picture_is_refused(shared_client: httpx.Client) -> None:
    answer = shared_client.post("/v1/uploads", content=b"GIF89a but no more")
    assert answer.status_code == 400
    assert "the upload" in answer.json()["error"]["message"]


def test_events_tell_a_job_from_its_submission_to_its_end(client: httpx.Client) -> None:
    client.post("/v1/queue", json={"paused": True})
    job = client.post("/v1/jobs", json={"request": {**CAT, "steps": 20}, "count": 2}).json()
    heard: list[tuple[str, Any]] = []
    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
        client.post("/v1/queue", json={"paused": False})
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                heard.append((kind, json.loads(line.removeprefix("data: "))))
    assert heard[-1][0] == "job"
    assert heard[-1][1]["state"] == "done"
    steps = [data["step"] for kind, data in heard if kind == "progress"]
    assert steps == sorted(steps)
    assert steps[-1] == 40
    assert any(kind == "preview" and data["image"].startswith("data:image/jpeg;base64,") for kind, data in heard)


def test_who_lost_the_line_hears_what_was_missed(client: httpx.Client) -> None:
    first = client.post("/v1/jobs", json={"request": CAT}).json()
    finished(client, first)
    with client.stream("GET", "/v1/events", headers={"Last-Event-ID": "another-process-1"}) as answer:
        lines = [line for line, _ in zip(answer.iter_lines(), range(9))]
    states = [json.loads(line.removeprefix("data: "))["state"] for line in lines if line.startswith("data: ")]
    assert states[:2] == ["queued", "running"]


def test_a_cancelled_job_leaves_the_others_alone(client: httpx.Client) -> None:
    long = client.post("/v1/jobs", json={"request": {**CAT, "steps": 60}, "count": 20}).json()
    short = client.post("/v1/jobs", json={"request": CAT}).json()
    assert client.delete(f"/v1/jobs/{long['id']}").status_code == 200
    assert finished(client, long)["state"] == "cancelled"
    assert finished(client, short)["state"] == "done"
    assert client.delete("/v1/jobs/none").status_code == 404


def test_a_paused_queue_can_be_ordered(client: httpx.Client) -> None:
    assert client.post("/v1/queue", json={"paused": True}).json()["paused"] is True
    jobs = [client.post("/v1/jobs", json={"request": {**CAT, "seed": i}}).json()["id"] for i in range(3)]
    urgent = client.post("/v1/jobs", json={"request": CAT, "priority": 1}).json()["id"]
    assert client.get("/v1/queue").json()["waiting"] == [urgent, *jobs]
    client.post(f"/v1/jobs/{jobs[2]}/move", json={"before": jobs[0]})
    assert client.get("/v1/queue").json()["waiting"] == [urgent, jobs[2], jobs[0], jobs[1]]
    client.post(f"/v1/jobs/{urgent}/move", json={"before": None})
    assert client.get("/v1/queue").json()["waiting"][0] == urgent  # of its priority it is the only one
    assert client.post(f"/v1/jobs/{jobs[0]}/move", json={"before": "none"}).status_code == 409
    assert client.get(f"/v1/jobs/{jobs[1]}").json()["position"] == 4
    client.post("/v1/queue", json={"paused": False})
    assert finished(client, {"id": jobs[1]})["state"] == "done"


def test_a_key_never_runs_twice(client: httpx.Client) -> None:
    first, again = (
        client.post("/v1/jobs", json={"request": CAT}, headers={"Idempotency-Key": "k"}).json() for _ in range(2)
    )
    assert first["id"] == again["id"]
    other = client.post("/v1/jobs", json={"request": {}}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "used_key"
    assert len(client.get("/v1/jobs").json()["data"]) == 1


def test_a_deadline_ends_a_job(client: httpx.Client) -> None:
    client.post("/v1/queue", json={"paused": True})
    job = client.post("/v1/jobs", json={"request": CAT, "deadline": 0.1}).json()
    ended = finished(client, job)
    assert ended["state"] == "failed"
    assert ended["error"]["code"] == "deadline_exceeded"
