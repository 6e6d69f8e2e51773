"""Several servers on one store: any answers for all, and what one leaves the others finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
from postgres_server import PostgresServer
from serving import TOKEN, finished, loader, server, serving

from darkroom.checkpoints.model import load_model
from darkroom.library import Model
from darkroom.serve.guard import GuardConfig
from darkroom.serve.jobs import Job, Submission
from darkroom.serve.service import Service, ServiceConfig


def test_a_server_that_was_cut_off_lets_go(postgres: PostgresServer, tiny_folder: Path, tmp_path: Path) -> None:
    config = ServiceConfig(tmp_path / "shared", store=postgres.new(), lease=60, drain=0.0)
    a, b = (Service(config, {"tiny": loader(tiny_folder)}) for _ in range(2))
    a.worker.paused = b.worker.paused = True
    job = a.store.add(Job("tiny", {"prompt": "a cat", "steps": 1}))
    for service in (a, b):
        service.queue.look_around()
    live = a.queue.live(job.id)
    assert live is not None
    assert a.queue.own(live)
    b.queue.look_around()
    assert job.id not in b.queue
    assert not b.queue.cancel(job.id)  # is asked of the other
    a.queue.keep()
    assert live.cancelled
    a.store.lease = -1.0
    a.store.renew()  # as if nothing had been heard of it
    b.queue.look_around()
    taken = b.queue.live(job.id)
    assert taken is not None
    assert b.queue.own(taken)
    assert taken.cancelled
    a.queue.keep()
    assert (job.id in a.queue, live.mine) == (False, False)
    for service in (a, b):
        service.stop()


def test_words_of_others_reach_the_queue(postgres: PostgresServer, tiny_folder: Path, tmp_path: Path) -> None:
    config = ServiceConfig(tmp_path / "shared", store=postgres.new(), lease=60, drain=0.0)
    a, b = (Service(config, {"tiny": loader(tiny_folder)}) for _ in range(2))
    a.peers.start()
    b.peers.start()
    b.worker.paused = True

    def soon(is_so: Callable[[], bool]) -> None:
        end = time.monotonic() + 240
        while not is_so():
            assert time.monotonic() < end
            time.sleep(0.05)

    job = a.submit(Submission("tiny", {"prompt": "a cat", "steps": 1}))
    soon(lambda: job.id in b.queue)
    live = a.queue.live(job.id)
    assert live is not None
    assert a.queue.own(live)
    a.worker.tell(a.store.change(job, state="running"))
    soon(lambda: job.id not in b.queue)
    b.cancel(job.id)
    soon(lambda: live.cancelled)
    live.cancelled = False
    a.stop()
    soon(lambda: job.id in b.queue)  # what it has left
    b.stop()


def test_what_a_killed_server_leaves_the_other_finishes(
    postgres: PostgresServer, tiny_folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    url, folder, said = postgres.new(), tmp_path / "shared", {"prompt": "a red cat", "steps": 12}
    config = ServiceConfig(folder, store=url, lease=2.0, most=1, drain=0.0)
    options = ["--folder", str(folder), "--store", url, "--lease", "2", "--together", "1", "--token", TOKEN]

    def asked(client: httpx.Client, seed: int, count: int = 1) -> dict[str, str]:
        body = {"request": {**said, "seed": seed}, "exact": True, "count": count}
        return client.post("/v1/jobs", json=body, headers={"Idempotency-Key": f"key {seed}"}).json()

    with ExitStack() as stack:
        process, killed = stack.enter_context(server(tiny_folder, environment, *options))
        lost = asked(killed, 0, count=2)
        while killed.get(f"/v1/jobs/{lost['id']}").json()["step"] < 3:
            time.sleep(0.05)
        service = Service(config, {"tiny": loader(tiny_folder)})
        address = stack.enter_context(serving(service, GuardConfig({TOKEN: "owner"}, rate=1e6)))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        other = stack.enter_context(httpx.Client(base_url=address, headers=headers, timeout=240))
        jobs = [lost, asked(killed, 10), asked(other, 11)]
        assert asked(other, 0, count=2)["id"] == lost["id"]
        assert asked(killed, 11)["id"] == jobs[2]["id"]
        process.kill()
        ended = [finished(other, job) for job in jobs]
        contents = [other.get(picture["url"]).content for job in ended for picture in job["pictures"]]
        assert [job["state"] for job in ended] == ["done"] * 3
        assert len(other.get("/v1/pictures").json()["data"]) == len(contents) == 4
    assert not list((folder / "journals").iterdir())
    model = Model(load_model(str(tiny_folder)))
    for content, seed in zip(contents, (0, 1, 10, 11)):
        assert content == model.draw(**said, seed=seed).save(tmp_path / "expected.png").read_bytes()
