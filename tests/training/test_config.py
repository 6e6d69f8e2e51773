"""Settings that cannot be are refused where they are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom.data.source import PictureBookConfig
from darkroom.errors import InputError
from darkroom.training.config import LoopConfig, OptimizerConfig
from darkroom.training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "picturebook"
CONFIG = LoopConfig(steps=1, batch_size=1, lr=0.1)


def test_lr_rises_and_falls() -> None:
    config = LoopConfig(steps=110, batch_size=1, lr=0.3, warmup_steps=10, lr_schedule="cosine")
    assert config.lr_share(0) == pytest.approx(0.1)
    assert config.lr_share(9) == 1.0
    assert config.lr_share(60) == pytest.approx(0.5)
    assert config.lr_share(109) < 0.01


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"batch_size": 65_537},
        {"grad_accumulation": 4097},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"warmup_steps": -1},
        {"seed": -1},
        {"weight_decay": -0.1},
        {"betas": (1.5, 0.9)},
        {"ema_decay": 1.0},
        {"max_grad_norm": 0.0},
    ],
)
def test_loops_that_cannot_be(bad: dict[str, Any]) -> None:
    (name,) = bad
    with pytest.raises(InputError, match=rf"{name} is .*, expected is"):
        replace(CONFIG, **bad)


@pytest.mark.parametrize(("name", "value"), [("lr", 0.0), ("weight_decay", -0.1), ("start_step", -1)])
def test_optimizers_that_cannot_be(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"optimizers.net.{name} is {value}, expected is"):
        replace(CONFIG, optimizers={"net": replace(OptimizerConfig(), **{name: value})})


@pytest.mark.parametrize(("name", "value"), [("size", 7), ("count", 0), ("seed", -1), ("most_things", 5)])
def test_sources_that_cannot_be(name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{name} is {value}, expected is"):
        replace(PictureBookConfig(64, 10), **{name: value})


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_every_recipe_of_the_house_reads(path: Path) -> None:
    loaded = load_recipe(path)
    assert loaded.recipe.loop.precision == "auto"
    assert load_recipe(path, ["loop.steps=7"]).recipe.loop.steps == 7


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("classifier", "data.size=100", "data.size is 100, expected is a multiple of 16"),
        ("classifier", "width=0", "width is 0, expected is at least 1"),
        ("judge", "data.size=72", "data.size is 72, expected is a multiple of 16"),
        ("judge", "loop.stepz=3", "unknown key loop.stepz; known are: steps,"),
        ("judge", "loop.steps=1.5", "loop.steps is 1.5, expected is a whole number"),
        ("autoencoder", "kl_weight=-1.0", "kl_weight is -1.0, expected is a number from 0 up"),
        ("autoencoder", "data.size=68", "data.size is 68, expected is a multiple of 8 from 16 up"),
        ("autoencoder", "discriminator_layers=0", "discriminator_layers is 0, expected is at least 1"),
        ("diffusion", "data.size=72", "data.size is 72, expected is a multiple of 16"),
        ("diffusion", "model=picturebok:fresh", "unknown system 'picturebok'; known are: picturebook"),
        ("diffusion", "model=", "model is empty"),
        ("diffusion", "buckets.resolution=128", "buckets is given, expected is nothing beside scenes"),
        ("diffusion", "loss.weighting=p3", "loss.weighting is 'p3', accepted are: p2"),
        ("diffusion", "loss.loss_type=l3", "loss.loss_type is 'l3', accepted are: l2, l1"),
    ],
)
def test_recipes_that_cannot_be(recipe: str, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe(RECIPES / f"{recipe}.toml", [override])


def test_fresh_weights_come_from_the_seed() -> None:
    loaded = load_recipe(RECIPES / "judge.toml", ["width=4"])

    def weights(seed: int) -> torch.Tensor:
        recipe = replace(loaded.recipe, loop=replace(loaded.recipe.loop, seed=seed))
        return torch.cat([p.flatten() for p in loaded.objective(recipe).trained.parameters()])

    first = weights(0)
    torch.rand(3)  # whatever else was drawn
    assert torch.equal(weights(0), first)
    assert not torch.equal(weights(1), first)
