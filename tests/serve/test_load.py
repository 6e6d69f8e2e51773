"""Many unlike clients at once: nothing is lost, doubled or mixed, whatever others do."""

from __future__ import annotations

import io
import random
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import finished

from darkroom.checkpoints.model import load_model
from darkroom.library import Model

PROMPTS = ("a red cat", "a (dog:1.3) and a tree", "[cat|dog]", "x AND y :0.7", "")
SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DDIM", "Heun")


def any_request(rng: random.Random) -> dict[str, Any]:
    size = rng.choice((32, 48))
    return {
        "prompt": rng.choice(PROMPTS),
        "seed": rng.randrange(1000),
        "steps": rng.randint(1, 4),
        "sampler": rng.choice(SAMPLERS),
        "guidance_scale": rng.choice((1.0, 3.0, 7.5)),
        "width": size,
        "height": 32,
    }


Drawn = list[tuple[dict[str, Any], bytes]]  # requests and the files of their pictures


def client_of(number: int, address: str, token: str, drawn: Drawn, ends: list[str]) -> None:
    """One client's few minutes: jobs, jobs that it cancels, nonsense, and lines that it drops."""
    rng = random.Random(number)
    headers = {"Authorization": f"Bearer {token}", "X-Client": f"client {number}"}
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        for i in range(4):
            request = any_request(rng)
            body = {"request": request, "exact": True}
            what = rng.choice(("draw", "draw", "cancel", "nonsense", "drop"))
            if what == "nonsense":
                wrong = client.post("/v1/jobs", json={"request": {**request, "steps": "many", "x": 1}})
                ends.append(str(wrong.status_code))
                continue
            if what == "drop":
                try:
                    client.post("/v1/images/generations", json={"prompt": "x", "steps": 60, "n": 9}, timeout=0.2)
                except httpx.ReadTimeout:
                    ends.append("dropped")
                continue
            key = {"Idempotency-Key": f"{number}-{i}"}
            job, again = (client.post("/v1/jobs", json=body, headers=key).json() for _ in range(2))
            assert job["id"] == again["id"]
            if what == "cancel":
                client.delete(f"/v1/jobs/{job['id']}")
            done = finished(client, job, 90)
            ends.append(done["state"])
            drawn += [(request, client.get(p["url"]).content) for p in done["pictures"]]


@pytest.mark.slow
def test_unlike_clients_get_what_each_would_get_alone(client: httpx.Client, tiny_folder: Path) -> None:
    drawn: Drawn = []
    ends: list[str] = []
    token = client.headers["Authorization"].removeprefix("Bearer ")
    arguments = [(n, str(client.base_url), token, drawn, ends) for n in range(6)]
    threads = [threading.Thread(target=client_of, args=a) for a in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert len(ends) == 24
    assert set(ends) <= {"done", "cancelled", "dropped", "400"}
    assert len(drawn) >= ends.count("done") > 0
    model = Model(load_model(str(tiny_folder)))
    for request, content in drawn:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), model.draw(**request).pixels)
    left = [job["state"] for job in client.get("/v1/jobs", params={"state": "queued,running"}).json()["data"]]
    assert left == []
