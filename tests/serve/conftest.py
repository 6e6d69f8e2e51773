"""A server over the tiny model: a real socket, a real engine, files in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from postgres_server import PostgresServer, why_missing
from safetensors.torch import save_file
from serving import TOKEN, loader, own_environment, serving

from darkroom.checkpoints.control_names import original_controlnet
from darkroom.checkpoints.model_folders import ModelFolders
from darkroom.checkpoints.table import rules
from darkroom.models.controlnet import ControlNet, ControlNetConfig
from darkroom.serve.intake import Limits
from darkroom.serve.service import Service, ServiceConfig
from darkroom.systems.build import LatentDiffusion


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
        httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=240) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def control_folder(tiny_model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one ControlNet for the tiny model, `edges`, random in every parameter."""
    folder = tmp_path_factory.mktemp("controls")
    unet = replace(tiny_model.unet.config, in_channels=tiny_model.autoencoder.config.latent_channels)
    config = ControlNetConfig(unet, hint_widths=(8, 8, 8, 8))
    network, generator = ControlNet(config), torch.Generator().manual_seed(1)
    state = {n: 0.05 * torch.randn(p.shape, generator=generator) for n, p in network.state_dict().items()}
    found: dict[str, torch.Tensor] = {}
    for rule in rules(original_controlnet(config), state):
        found.update(zip(rule.theirs, rule.change.to_theirs([state[name] for name in rule.ours])))
    save_file({name: tensor.contiguous().clone() for name, tensor in found.items()}, folder / "edges.safetensors")
    return folder


@pytest.fixture(scope="session")
def shared_client(
    tiny_folder: Path, control_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """One server for all tests that leave nothing behind that others would see."""
    folder = tmp_path_factory.mktemp("serve") / "server"
    limits = replace(Limits(), pixels=128 * 128, steps=60)
    config = ServiceConfig(folder, limits=limits, folders=ModelFolders(controlnet=(control_folder,)), drain=0.0)
    with (
        serving(Service(config, {"tiny": loader(tiny_folder)})) as address,
        httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=240) as client,
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
