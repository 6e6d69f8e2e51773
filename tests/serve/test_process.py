"""The command as a process: killed inside a picture, and asked by `darkroom generate`."""

from __future__ import annotations

import io
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from darkroom_process import darkroom
from PIL import Image
from serving import COMMAND, own_environment, server

from darkroom.checkpoints.model import load_model
from darkroom.library import Model
from tests.serve.kills import kill_at_random


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def until(client: httpx.Client, id: str, is_so: Any, seconds: float = 240) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = client.get(f"/v1/jobs/{id}").json()
        if is_so(job):
            return job
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {job}")


def test_jobs_survive_a_kill_inside_a_picture(tiny_folder: Path, environment: dict[str, str]) -> None:
    said = {"prompt": "a red cat", "steps": 12, "seed": 3}
    with server(tiny_folder, environment) as (process, client):
        body = {"request": said, "count": 2, "exact": True}
        running = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "one"}).json()
        until(client, running["id"], lambda job: job["step"] > 3)
        queued = client.post("/v1/jobs", json={"request": {**said, "steps": 2}, "exact": True}).json()
        process.send_signal(signal.SIGKILL)
        process.wait()
    with server(tiny_folder, environment) as (process, client):
        again = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "one"}).json()
        assert again["id"] == running["id"]
        done = [until(client, id, lambda job: job["finished"]) for id in (running["id"], queued["id"])]
        assert [job["state"] for job in done] == ["done", "done"]
        contents = [client.get(p["url"]).content for job in done for p in job["pictures"]]
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    model = Model(load_model(str(tiny_folder)))
    expected = [model.draw(**{**said, **more}) for more in ({}, {"seed": 4}, {"steps": 2})]
    for content, drawn in zip(contents, expected):
        path = Path(environment["XDG_DATA_HOME"]) / "expected.png"
        assert content == drawn.save(path).read_bytes()


@pytest.fixture(scope="module")
def running(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client, dict[str, str]]]:
    """A server as a process of its own, for tests that leave it as it was."""
    environment = own_environment(tmp_path_factory.mktemp("user"))
    with server(tiny_folder, environment) as (process, client):
        yield process, client, environment


def test_a_full_disk_ends_what_it_meets_and_nothing_else(
    running: tuple[subprocess.Popen[str], httpx.Client, dict[str, str]],
) -> None:
    process, client, _ = running
    said, limit = {"prompt": "a red cat", "steps": 30}, resource.RLIMIT_FSIZE
    for _ in range(20):  # until the disk is full while both are drawn, and no more before the longer one is
        job, longer = (
            client.post("/v1/jobs", json={"request": {**said, "steps": steps}}).json() for steps in (30, 120)
        )
        until(client, longer["id"], lambda job: job["step"] > 2)
        before = resource.prlimit(process.pid, limit, (16, resource.RLIM_INFINITY))  # no file grows any more
        try:
            met = client.get(f"/v1/jobs/{job['id']}").json()["step"] < 30
            refused = client.post("/v1/jobs", json={"request": said})
            photo = client.post("/v1/uploads", content=png(np.zeros((8, 8, 3), np.uint8)))
            until(client, longer["id"], lambda job: job["step"] > 80)  # the other is over by then
        finally:
            resource.prlimit(process.pid, limit, before)
        if met and client.get(f"/v1/jobs/{longer['id']}").json()["step"] < 120:
            break
    assert (refused.status_code, photo.status_code) == (503, 507)
    assert refused.json()["error"]["message"].startswith("the jobs cannot be written now: ")
    assert photo.json()["error"]["message"] == "the upload could not be kept: File too large"
    ended = until(client, job["id"], lambda job: job["finished"])
    assert ended["error"]["message"] == "the picture could not be kept: File too large"
    assert until(client, longer["id"], lambda job: job["finished"])["state"] == "done"


@pytest.mark.slow
def test_kills_at_random_moments_lose_double_and_change_nothing(tiny_folder: Path, environment: dict[str, str]) -> None:
    assert kill_at_random(str(tiny_folder), environment, count=1, seed=0) >= 2


def test_generate_hands_over_and_gets_the_same_bytes(
    running: tuple[subprocess.Popen[str], httpx.Client, dict[str, str]], tiny_folder: Path, tmp_path: Path
) -> None:
    _, _, environment = running
    line = ["generate", "a red zebra", "-m", str(tiny_folder), "--steps", "3", "-s", "5"]

    def generate(name: str, *more: str) -> tuple[bytes, str]:
        out = tmp_path / name
        result = darkroom(*line, "-o", out, *more, cwd=tmp_path, **environment)
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == str(out)
        return out.read_bytes(), result.stderr

    handed, said = generate("handed.png")
    remarked = said.partition("\n")[0]
    assert "does not know: zebra" in remarked
    assert "drawn by the server at http://127.0.0.1" in said
    local, said = generate("local.png", "--local")
    assert said.partition("\n")[0] == remarked
    assert "start and load" in said
    assert handed == local
    command = [*COMMAND, *line, "--width", "33"]
    bad = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert bad.returncode == 2
    assert bad.stderr.startswith("darkroom: width is 33")
