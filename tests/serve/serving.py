"""What tests of the server share: a server on a thread of its own, and waiting for a job."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from darkroom.checkpoints.model import LoadedModel, load_model
from darkroom.serve.app import make_app
from darkroom.serve.guard import GuardConfig
from darkroom.serve.service import Service

TOKEN = "a-token-for-tests"


def loader(folder: Path) -> Callable[[], LoadedModel]:
    return lambda: load_model(str(folder))


@contextmanager
def serving(service: Service, guard: GuardConfig | None = None) -> Iterator[str]:
    """The address of a server over `service` on a thread of its own."""
    guard = guard or GuardConfig({TOKEN: "tester"}, rate=1e6)
    config = uvicorn.Config(make_app(service, guard), log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def finished(client: httpx.Client, job: dict[str, Any], seconds: float = 240) -> dict[str, Any]:
    """The job once it is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = client.get(f"/v1/jobs/{job['id']}").json()
        if now["finished"] is not None:
            return now
        time.sleep(0.02)
    raise AssertionError(f"not finished: {now}")
