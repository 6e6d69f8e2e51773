"""A server over the tiny model: a real socket, a real engine, files in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from postgres_server import PostgresServer, why_missing
from serving import TOKEN, loader, own_environment, serving

from darkroom.serve.intake import Limits
from darkroom.serve.service import Service, ServiceConfig


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


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return own_environment(tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the tests' own."""
    if (missing := why_missing()) is not None:
        pytest.skip(missing)
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def store_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty store's, of either database."""
    if request.param == "SQLite":
        return tmp_path / "jobs.db"
    return request.getfixturevalue("postgres").new()
