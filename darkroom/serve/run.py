"""The process of the server: a socket, the application on it, and an orderly end on SIGTERM and Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import uvicorn

from darkroom.errors import InputError, cause
from darkroom.serve.announcement import Announcement, announced
from darkroom.serve.app import make_app
from darkroom.serve.guard import GuardConfig
from darkroom.serve.logs import log_to_stderr
from darkroom.serve.residents import Load
from darkroom.serve.service import Service, ServiceConfig

__all__ = ["run"]


def run(
    config: ServiceConfig,
    models: Mapping[str, Load],
    announcement: Callable[[str], Announcement],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    names: Sequence[str] = (),
    browser: bool = False,
) -> None:
    """Serve until the process is told to end. `InputError` where the address or the folder is taken.

    Servers on one database may share a folder: their claims keep them apart.

    `announcement`: what the user's other programs are told, with the token, of the address that was got.
    """
    log_to_stderr()
    alone = _lock(config.folder) if config.store is None else nullcontext()
    with alone, _listening(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        told = announcement(f"http://{shown}:{listening.getsockname()[1]}")
        address = f"{told.address}/?token={told.token}"
        guard = GuardConfig({told.token: "owner"}, tuple(names), config.limits.body, config.limits.rate)
        app = make_app(Service(config, models), guard)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(config.drain)),
            )
        )
        print(address, flush=True)
        if browser:
            webbrowser.open(address)
        # uvicorn ends in order on SIGTERM and then raises it anew: that it came is no failure.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        with announced(told):
            server.run(sockets=[listening])


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(100)  # who comes before the server is up waits
    except OSError as error:
        listening.close()
        raise InputError(f"the server cannot listen on {host}:{port}: {cause(error)}") from None
    with listening:
        yield listening


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One server a folder: two would draw the same jobs."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InputError(f"another server works in {folder}; give this one its own with --folder") from None
    try:
        yield
    finally:
        os.close(descriptor)
