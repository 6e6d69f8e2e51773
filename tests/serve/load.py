"""`python -m tests.serve.load --minutes 10 --clients 32`: unlike requests, cancels, nonsense and dropped lines at once.

Nothing may be lost, doubled or mixed: every job ends, a key answers with its first job, each picture has the pixels
that the library draws of its request alone. Memory is read all along.
"""

from __future__ import annotations

import argparse
import io
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from darkroom.checkpoints.model import load_model
from darkroom.library import Model
from tests.serve.serving import finished, own_environment, server

__all__ = ["ENDS", "Drawn", "all_of", "check", "one_client"]

PROMPTS = ("a red cat", "a (dog:1.3) and a tree", "[cat|dog]", "x AND y :0.7", "")
SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DDIM", "Heun")
ENDS = {"done", "cancelled", "dropped", "400"}  # that are right
Drawn = list[tuple[dict[str, Any], bytes]]  # requests and the files of their pictures


def any_request(rng: random.Random) -> dict[str, Any]:
    return {
        "prompt": rng.choice(PROMPTS),
        "seed": rng.randrange(1000),
        "steps": rng.randint(1, 4),
        "sampler": rng.choice(SAMPLERS),
        "guidance_scale": rng.choice((1.0, 3.0, 7.5)),
        "width": rng.choice((32, 48)),
        "height": 32,
    }


def one_client(
    number: int, address: str, token: str, drawn: Drawn, ends: list[str], goes_on: Callable[[int], bool]
) -> None:
    """One client, as long as `goes_on`: jobs, jobs that it cancels, nonsense, and lines that it drops."""
    rng = random.Random(number)
    headers = {"Authorization": f"Bearer {token}", "X-Client": f"client {number}"}
    i = 0
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        while goes_on(i):
            i += 1
            request = any_request(rng)
            what = rng.choice(("draw", "draw", "cancel", "nonsense", "drop"))
            if what == "nonsense":
                ends.append(str(_posted(client, {"request": {**request, "steps": "many", "x": 1}}).status_code))
                continue
            if what == "drop":
                try:
                    client.post("/v1/images/generations", json={"prompt": "x", "steps": 60, "n": 9}, timeout=0.2)
                except httpx.TimeoutException:
                    ends.append("dropped")
                continue
            body, key = {"request": request, "exact": True}, f"{number}-{i}"
            job, again = (_posted(client, body, key).json() for _ in range(2))
            assert job["id"] == again["id"]
            if what == "cancel":
                client.delete(f"/v1/jobs/{job['id']}")
            done = finished(client, job, 600)  # however busy the machine is
            ends.append(done["state"])
            drawn += [(request, client.get(p["url"]).content) for p in done["pictures"]]


def _posted(client: httpx.Client, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    """The answer to a job, after as many waits as the server asks for."""
    while True:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = client.post("/v1/jobs", json=body, headers=headers)
        if answer.status_code != 429:
            return answer
        time.sleep(float(answer.headers["retry-after"]))


def all_of(
    clients: int, address: str, token: str, drawn: Drawn, ends: list[str], goes_on: Callable[[int], bool]
) -> list[threading.Thread]:
    """So many clients, begun."""
    arguments = [(n, address, token, drawn, ends, goes_on) for n in range(clients)]
    threads = [threading.Thread(target=one_client, args=a) for a in arguments]
    for thread in threads:
        thread.start()
    return threads


def check(drawn: Iterable[tuple[dict[str, Any], bytes]], model: Model) -> None:
    """`AssertionError` where a picture is not the one of its request alone."""
    for request, content in drawn:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), model.draw(**request).pixels), request


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.serve.load", description=__doc__)
    parser.add_argument("-m", "--model", default="picturebook")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=32)
    a = parser.parse_args()
    drawn: Drawn = []
    ends: list[str] = []
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as folder, server(a.model, own_environment(Path(folder))) as (_, client):
        token = client.headers["Authorization"].removeprefix("Bearer ")
        end = time.monotonic() + 60 * a.minutes
        threads = all_of(a.clients, str(client.base_url), token, drawn, ends, lambda _: time.monotonic() < end)
        while any(thread.is_alive() for thread in threads):
            time.sleep(2)
            memory.append(_resident(client))
        left = client.get("/v1/jobs", params={"state": "queued,running"}).json()["data"]
        while left and all(job["state"] == "running" for job in left) and time.monotonic() < end + 60:
            time.sleep(0.5)
            left = client.get("/v1/jobs", params={"state": "queued,running"}).json()["data"]
    third = max(1, len(memory) // 3)
    middle, last = statistics.median(memory[third : 2 * third] or memory), statistics.median(memory[-third:])
    print(f"ends: {dict(Counter(ends))}; jobs left: {len(left)}")
    print(f"resident memory, MiB: {memory[0]:.0f} first, {middle:.0f} in the second third, {last:.0f} in the last")
    assert set(ends) <= ENDS
    assert not left
    check(drawn, Model(load_model(a.model)))
    print(f"{len(drawn)} pictures, each with the pixels of its request alone")


def _resident(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("process_resident_memory_bytes ")) / 2**20


if __name__ == "__main__":
    main()
