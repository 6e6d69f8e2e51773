"""A server over the tiny model: a real socket, a real engine, files in a folder of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn

from darkroom.checkpoints.model import LoadedModel, load_model
from darkroom.serve.app import make_app
from darkroom.serve.guard import GuardConfig
from darkroom.serve.intake import Limits
from darkroom.serve.service import Service, ServiceConfig

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


@pytest.fixture
def service_config(tmp_path: Path) -> ServiceConfig:
    return ServiceConfig(tmp_path / "server", limits=Limits(pixels=128 * 128, steps=60), drain=0.0)


@pytest.fixture
def service(service_config: ServiceConfig, tiny_folder: Path) -> Service:
    return Service(service_config, {"tiny": loader(tiny_folder)})


@pytest.fixture
def client(service: Service) -> Iterator[httpx.Client]:
    """Who knows the token."""
    with (
        serving(service) as address,
        httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def shared_client(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One server for all tests that leave nothing behind that others would see."""
    folder = tmp_path_factory.mktemp("serve") / "server"
    config = ServiceConfig(folder, limits=replace(Limits(), pixels=128 * 128, steps=60), drain=0.0)
    with (
        serving(Service(config, {"tiny": loader(tiny_folder)})) as address,
        httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as client,
    ):
        yield client
