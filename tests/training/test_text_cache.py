"""Features of captions that are encoded once, and runs that hold no text encoder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.checkpoints.lora import read_lora
from darkroom.checkpoints.native import load_system, save_system
from darkroom.data.buckets import BucketConfig
from darkroom.data.captions import CaptionConfig
from darkroom.data.folder import FolderConfig
from darkroom.data.source import PictureBookConfig
from darkroom.errors import InputError
from darkroom.systems import SYSTEMS
from darkroom.systems.build import build
from darkroom.systems.narrow import narrowed, write_narrow_vocabulary
from darkroom.training.adapters import AdapterConfig
from darkroom.training.config import LoopConfig
from darkroom.training.diffusion import DiffusionObjective, DiffusionRecipe
from darkroom.training.loop import train
from tests.checkpoints.narrow_checkpoints import randomise

CAPTIONS = ("a red house\na blue house", "a house of stone", "two houses")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SDXL at a narrow width: two text towers, a pooled output, sizes."""
    folder = tmp_path_factory.mktemp("narrow")
    write_narrow_vocabulary(folder)
    system: Any = randomise(build(narrowed(SYSTEMS["sdxl-base"])))
    system.conditioner.look_in(folder)
    save_system(system, folder / "model", {}, torch.float32)
    return folder / "model"


@pytest.fixture
def recipe(model: Path, tmp_path: Path) -> DiffusionRecipe:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for i, caption in enumerate(CAPTIONS):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(pictures / f"{i}.png")
        (pictures / f"{i}.txt").write_text(caption)
    return DiffusionRecipe(
        loop=LoopConfig(steps=3, batch_size=2, lr=1e-2, precision="fp32", log_every=1, sample_every=9),
        data=FolderConfig(pictures, captions=CaptionConfig(lines=True, drop_rate=0.2)),
        model=str(model),
        buckets=BucketConfig(64, step=64),
        adapter=AdapterConfig(2),
        drop_rates={"caption": 0.3},
        prompts=("a (red:1.3) house",),
        samples={"steps": 1, "negative_prompt": "stone", "clip_skip": 2},
        text_cache=tmp_path / "cache",
    )


def run(recipe: DiffusionRecipe, folder: Path) -> DiffusionObjective:
    torch.manual_seed(0)
    objective = DiffusionObjective(recipe)
    train(objective, recipe.loop, folder, recipe=recipe)
    return objective


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss/diffusion"] for line in (folder / "log.jsonl").open()]


def test_a_lora_learns_the_same_without_a_text_encoder(
    recipe: DiffusionRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cached, plain = run(recipe, tmp_path / "cached"), run(replace(recipe, text_cache=None), tmp_path / "plain")
    names = [n for n, _ in cached.model.named_parameters()]
    assert not [n for n in names if n.startswith("conditioner")]
    assert all(p.is_meta for p in cached.embedders["caption"].whole.parameters())  # type: ignore[union-attr]
    assert "encoding 6 captions" in capsys.readouterr().err  # two of one picture, two more, an empty one and none
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    system = plain.model.system
    ours, theirs = (
        read_lora(tmp_path / name / "export" / "lora.safetensors", system).unet for name in ("cached", "plain")
    )
    for name, adapter in theirs.items():
        weight: Any = plain.model.get_submodule(name).weight
        assert torch.allclose(ours[name].difference(weight), adapter.difference(weight), atol=1e-4)
    drawn = [np.asarray(Image.open(tmp_path / name / "samples" / "0000003.png"), float) for name in ("cached", "plain")]
    assert np.abs(drawn[0] - drawn[1]).max() <= 2
    DiffusionObjective(recipe)  # all is there
    assert "encoding" not in capsys.readouterr().err


def test_the_whole_model_is_exported_with_its_text_encoder(
    recipe: DiffusionRecipe, model: Path, tmp_path: Path
) -> None:
    run(replace(recipe, adapter=None, prompts=(), loop=replace(recipe.loop, steps=1)), tmp_path / "run")
    exported, begun = load_system(tmp_path / "run" / "export"), load_system(model)
    own, given = (m.conditioner.state_dict() for m in (exported, begun))
    assert all(torch.equal(own[k], given[k].bfloat16()) for k in given)
    assert not torch.equal(exported.unet.conv_in.weight, begun.unet.conv_in.weight)


def test_features_of_another_text_are_noticed(recipe: DiffusionRecipe, tmp_path: Path) -> None:
    objective = DiffusionObjective(recipe)
    kept: Any = objective.embedders["caption"]
    with pytest.raises(InputError, match=r"the features of 'a green house' are not in .*text-.*-fp32"):
        kept.prepare(["a green house"])
    first, second = (kept._path(text, None) for text in ("two houses", "a red house"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(InputError, match=r"safetensors holds something else for 'two houses' than is computed now"):
        DiffusionObjective(recipe)
    first.write_bytes(first.read_bytes()[:100])
    with pytest.raises(InputError, match=r"safetensors cannot be read .*: remove it"):
        kept.prepare(["two houses"])


def test_captions_that_are_not_known_before_are_refused(recipe: DiffusionRecipe, tiny_folder: Path) -> None:
    shuffled = replace(recipe.data, captions=CaptionConfig(shuffle=True))  # type: ignore[type-var]
    with pytest.raises(InputError, match=r"captions.shuffle is true, expected is false where all captions must"):
        DiffusionObjective(replace(recipe, data=shuffled))
    scenes = replace(recipe, data=PictureBookConfig(64, 4), buckets=None)
    with pytest.raises(InputError, match=r"the captions of scene 0 are made as they are drawn"):
        DiffusionObjective(scenes)
    with pytest.raises(InputError, match=r"text_cache is given, expected is nothing where the text encoder learns"):
        replace(recipe, adapter=AdapterConfig(2, text=True))
    own = replace(recipe, model=str(tiny_folder), drop_rates={})
    with pytest.raises(InputError, match=r"nothing for tiny, which has no frozen text encoder"):
        DiffusionObjective(own)
