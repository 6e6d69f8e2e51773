"""What tests of the server share: a server on a thread of its own, and waiting for a job."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
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
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "darkroom"]


def loader(folder: Path) -> Callable[[], LoadedModel]:
    return lambda: load_model(str(folder))


@contextmanager
def serving(service: Service, guard: GuardConfig | None = None) -> Iterator[str]:
    """The address of a server over `service` on a thread of its own."""
    guard = guard or GuardConfig({TOKEN: "tester"}, rate=1e6)
    # Lines are kept: one that is closed for being idle while a busy machine is about to use it fails a test by chance.
    config = uvicorn.Config(
        make_app(service, guard), log_config=None, timeout_graceful_shutdown=1, timeout_keep_alive=600
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(240)


def own_environment(folder: Path) -> dict[str, str]:
    """A user's own, in `folder`: nothing of the machine's server, folders or tokens."""
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700, exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(runtime), "XDG_DATA_HOME": str(folder / "data")}


@contextmanager
def server(
    model: Path | str, environment: dict[str, str], *options: str
) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The command as a process, and a client that knows its token."""
    command = [*COMMAND, "serve", "-m", str(model), "--port", "0", *options]
    with (
        tempfile.TemporaryFile() as log,  # a pipe that nobody reads would stop the server when it is full
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True) as process,
    ):
        assert process.stdout is not None
        address, _, token = process.stdout.readline().strip().partition("/?token=")
        if not token:
            log.seek(0)
            raise AssertionError(log.read().decode())
        headers = {"Authorization": f"Bearer {token}"}
        try:
            # A line for each request: the command closes idle ones, perhaps when a busy machine is about to use one.
            limits = httpx.Limits(max_keepalive_connections=0)
            with httpx.Client(base_url=address, headers=headers, timeout=240, limits=limits) as client:
                yield process, client
        finally:
            process.kill()


def finished(client: httpx.Client, job: dict[str, Any], seconds: float = 240) -> dict[str, Any]:
    """The job once it is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = client.get(f"/v1/jobs/{job['id']}").json()
        if now["finished"] is not None:
            return now
        time.sleep(0.02)
    raise AssertionError(f"not finished: {now}")
