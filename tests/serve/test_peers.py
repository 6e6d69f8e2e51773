"""Several servers on one store: any answers for all, and what one leaves the others finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from postgres_server import PostgresServer
from serving import loader

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
        end = time.monotonic() + 60
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
