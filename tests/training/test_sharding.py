"""Weights sharded over processes: the run of one process, and going on with other numbers of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contexts import first_places, numbers
from forked import forked_world
from narrow import narrow
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from darkroom.data.order import Place
from darkroom.data.source import PictureBookConfig
from darkroom.models.unet import UNet
from darkroom.training.adapters import AdapterConfig
from darkroom.training.config import LoopConfig
from darkroom.training.diffusion import DiffusionObjective, DiffusionRecipe
from darkroom.training.loop import train
from darkroom.training.objective import Loss, StepContext
from darkroom.training.power_ema import Snapshots
from darkroom.training.sharding import Rows, joined, own_part
from darkroom.training.validation import Validation
from darkroom.training.world import open_world

UNET = replace(narrow("sd-v1-5").unet, channel_mult=(1,), depth=(1,))
CONFIG = LoopConfig(
    steps=4, batch_size=4, lr=1e-3, ema_decay=0.5, precision="fp32", log_every=1, sample_every=2, save_every=2,
    max_grad_norm=0.5,
)  # fmt: skip


FIXED = torch.tensor([5, 500]), torch.ones(2, 3, UNET.context_dim or 0)  # timesteps and tokens


class Denoising:
    """A narrow UNet and, whole on every process, a head."""

    ema: tuple[str, ...] = ("unet",)

    def __init__(self) -> None:
        torch.manual_seed(0)
        unet = UNet(UNET)
        with torch.no_grad():
            unet.conv_out.weight.normal_(0, 0.05)  # which begins with zeros
        self.trained = nn.ModuleDict({"unet": unet, "head": nn.Conv2d(4, 4, 1)})
        self.frozen = nn.ModuleDict()
        self.reader = numbers(16, CONFIG.step_size)
        held_out = first_places(numbers(6, 2), 6)
        self.validation = Validation(1, [held_out[i : i + 2] for i in (0, 2, 4)], self.measure)

    def measure(self, places: Sequence[Place]) -> Mapping[str, Tensor]:
        found = self.trained["unet"](self.batch(places), *(x[: len(places)] for x in FIXED))
        return {"loss": (found - 1).square().flatten(1).mean(dim=1)}

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {"diffusion": list(self.trained.parameters())}

    def batch(self, places: Sequence[Place]) -> Tensor:
        return torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(p.index)) for p in places])

    def losses(self, batch: Tensor, context: StepContext) -> Iterator[Loss]:
        noise = context.draws.normal(4, 8, 8)
        t = (context.draws.uniform() * 1000).long()
        found = self.trained["unet"](batch + noise, t, torch.ones(len(batch), 3, UNET.context_dim or 0))
        yield Loss("diffusion", (self.trained["head"](found) - noise).square().mean(), {})

    def samples(self) -> np.ndarray | None:
        with torch.inference_mode():
            found = self.trained["unet"](
                torch.ones(1, 4, 8, 8), torch.tensor([5]), torch.ones(1, 3, UNET.context_dim or 0)
            )
        return (found[0, :3].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy()

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.trained.state_dict(), folder / "net.pt")


def one_of(rank: int, size: int, port: int, config: LoopConfig, folder: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with open_world("cpu") as world:
        objective = Denoising()
        train(objective, config, folder, world=world)
        if config.steps < CONFIG.steps:
            return
        assert not any(isinstance(p, DTensor) for p in objective.trained.parameters())


def on(size: int, config: LoopConfig, folder: Path) -> None:
    """Train on `size` processes."""
    if size == 1:
        train(Denoising(), config, folder)
        return
    forked_world(size, one_of, config, folder)


def weights(folder: Path, name: str = "export") -> Tensor:
    state = torch.load(folder / name / "net.pt", weights_only=True)
    assert not any(isinstance(t, DTensor) for t in state.values())
    return torch.cat([t.flatten() for t in state.values()])


def logged(folder: Path) -> list[float]:
    """Losses and norms of the gradients."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").open()]
    names = ("loss/diffusion", "gradient/diffusion", "validation/loss")
    return [line[name] for line in lines for name in names if name in line]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    on(1, CONFIG, folder)
    return folder


def test_sharded_weights_make_the_run_of_one_process(alone: Path, tmp_path: Path) -> None:
    """Two steps on two processes, one on one, the last on four."""
    sharded = replace(CONFIG, data_parallel="fsdp", gradient_checkpointing=True)
    on(2, replace(sharded, steps=2), tmp_path)
    parts = sorted(p.name for p in (tmp_path / "checkpoints" / "00000002").iterdir())
    assert parts == ["digests.json", "state-00001.pt", "state.pt"]
    on(1, replace(sharded, steps=3), tmp_path)
    on(4, sharded, tmp_path)
    assert logged(tmp_path) == pytest.approx(logged(alone), rel=1e-4)
    # Sums over processes round otherwise, and AdamW's first steps are as long where gradients are nothing but rounding
    # (of biases before a normalization): a few weights differ by a step.
    difference = (weights(tmp_path) - weights(alone)).abs()
    assert difference.max() < 4 * CONFIG.lr
    assert (difference > 1e-5).float().mean() < 0.01


def test_muon_further_means_and_the_best_step_are_those_of_one_process(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=3, optimizer="muon", ema_lengths=(0.1,), snapshot_every=1, max_grad_norm=None)
    one, two = tmp_path / "one", tmp_path / "two"
    on(1, config, one)
    on(2, replace(config, data_parallel="fsdp"), two)
    assert logged(two) == pytest.approx(logged(one), rel=1e-3)
    for name in ("export", "best"):
        assert ((weights(two, name) - weights(one, name)).abs() > 2e-4).float().mean() < 0.01, name
    ours, theirs = (Snapshots(folder).rebuilt(0.2).means for folder in (two, one))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=5e-3) for name in theirs)


def one_with_adapters(rank: int, size: int, port: int, recipe: DiffusionRecipe, folder: Path) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with open_world("cpu") as world:
        train(DiffusionObjective(recipe), recipe.loop, folder, world=world)


def test_adapters_learn_on_sharded_weights(tiny_folder: Path, tmp_path: Path) -> None:
    """DoRA's, which also read the weights that they change."""
    loop = LoopConfig(steps=2, batch_size=2, lr=1e-2, precision="fp32", log_every=1, ema_decay=0.5)
    recipe = DiffusionRecipe(
        replace(loop, data_parallel="fsdp"), PictureBookConfig(32, 6), str(tiny_folder),
        adapter=AdapterConfig(4, kind="dora"),
    )  # fmt: skip
    torch.manual_seed(0)
    train(DiffusionObjective(recipe), recipe.loop, tmp_path / "one")
    forked_world(2, one_with_adapters, recipe, tmp_path / "two")
    ours, theirs = (load_file(tmp_path / name / "export" / "lora.safetensors") for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    differences = torch.cat([(ours[name].float() - theirs[name].float()).abs().flatten() for name in theirs])
    assert (differences > 1e-3).float().mean() < 0.01


def test_parts_of_tensors_are_joined_row_by_row() -> None:
    whole = torch.arange(20.0).view(10, 2)
    state = {"a": {"part": whole[:4], "first": 0}, "n": 3}, {"a": {"part": whole[4:], "first": 4}, "n": None}
    found = joined(state)
    assert found["n"] == 3
    assert isinstance(found["a"], Rows)
    for first, last in ((0, 10), (2, 7), (4, 4), (9, 10)):
        assert torch.equal(found["a"].between(first, last), whole[first:last])
    assert own_part({"whole": whole, "n": 3}, first=False) == {"whole": None, "n": None}
