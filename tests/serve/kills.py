"""`python -m tests.serve.kills --count 20`: a server killed at random moments loses, doubles and changes nothing.

Jobs are submitted under keys while the server is killed with SIGKILL, started again, and asked again under the same
keys. In the end every job is done, its pictures are the bytes of the library's, and there are no others.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from darkroom.checkpoints.model import load_model
from darkroom.library import Model
from tests.serve.serving import own_environment, server

__all__ = ["kill_at_random"]

PROMPTS = ("a red cat", "a (dog:1.3) and a tree", "x AND y :0.7")


def kill_at_random(model: str, environment: dict[str, str], count: int, seed: int, within: float = 4.0) -> int:
    """Kill a server `count` times, each within `within` seconds of its start; how many pictures were compared.

    Raises `AssertionError` for what was lost, doubled or changed.
    """
    rng = random.Random(seed)
    bodies: dict[str, dict[str, Any]] = {}
    for i in range(2 * count):
        request = {"prompt": rng.choice(PROMPTS), "seed": 10 * i, "steps": rng.randint(2, 12)}
        bodies[f"key-{i}"] = {"request": request, "count": rng.randint(1, 2), "exact": True}
    for turn in range(count):
        with server(model, environment) as (process, client):
            killing = time.monotonic() + rng.uniform(0.0, within)
            for key, body in list(bodies.items())[: 2 * turn + 2]:
                if time.monotonic() > killing:
                    break
                client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key}).raise_for_status()
            time.sleep(max(0.0, killing - time.monotonic()))
            process.send_signal(signal.SIGKILL)
            process.wait()
    with server(model, environment) as (process, client):
        ids = {
            key: client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key}).json()["id"]
            for key, body in bodies.items()
        }
        done = {key: _over(client, id) for key, id in ids.items()}
        files = {key: [client.get(p["url"]).content for p in job["pictures"]] for key, job in done.items()}
        kept = client.get("/v1/pictures", params={"limit": 1000}).json()["data"]
        listed = client.get("/v1/jobs", params={"limit": 1000}).json()["data"]
    assert {job["state"] for job in done.values()} == {"done"}, [job for job in done.values() if job["state"] != "done"]
    assert len(listed) == len(bodies), "a key ran twice"
    pictures = sum(body["count"] for body in bodies.values())
    assert len(kept) == pictures, f"{len(kept)} pictures, expected are {pictures}"
    library = Model(load_model(model))
    with tempfile.TemporaryDirectory() as folder:
        for key, body in bodies.items():
            for number, content in enumerate(files[key]):
                request = {**body["request"], "seed": body["request"]["seed"] + number}
                drawn = library.draw(**request).save(Path(folder) / "picture.png")
                assert content == drawn.read_bytes(), f"another picture: {request}"
    return pictures


def _over(client: httpx.Client, id: str, seconds: float = 600) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = client.get(f"/v1/jobs/{id}").json()
        if job["finished"] is not None:
            return job
        time.sleep(0.1)
    raise AssertionError(f"not over within {seconds} s: {job}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.serve.kills", description=__doc__)
    parser.add_argument("-m", "--model", default="picturebook")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=8.0, help="seconds from a start to its kill, at most")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = kill_at_random(a.model, own_environment(Path(folder)), a.count, a.seed, a.within)
    print(f"killed {a.count} times: {pictures} pictures, none lost, none drawn twice, all with the library's bytes")


if __name__ == "__main__":
    main()
