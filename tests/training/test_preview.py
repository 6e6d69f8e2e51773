"""A tiny decoder learns what a first stage decodes, and a model's previews are made by it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from contexts import context, first_places

from darkroom.checkpoints.taesd import decoder_beside, load_tiny_decoder
from darkroom.data.source import PictureBookConfig
from darkroom.engine.preview import Preview
from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion
from darkroom.training.config import LoopConfig
from darkroom.training.loop import train
from darkroom.training.preview import PreviewObjective, PreviewRecipe


def recipe(model: Path, steps: int = 2) -> PreviewRecipe:
    loop = LoopConfig(steps=steps, batch_size=4, lr=3e-3, warmup_steps=1, ema_decay=0.5, log_every=1)
    return PreviewRecipe(loop, PictureBookConfig(32, 8), str(model), width=8)


def test_it_learns_and_previews_are_made_by_it(tiny_folder: Path, tiny_model: LatentDiffusion, tmp_path: Path) -> None:
    r = recipe(tiny_folder, steps=25)
    objective = PreviewObjective(r)
    places = first_places(objective.reader, 8)
    batch = objective.batch(places)
    (before,) = objective.losses(batch, context(places))
    train(objective, r.loop, tmp_path / "run", recipe=r)
    (after,) = objective.losses(batch, context(places))
    assert after.value.item() < 0.8 * before.value.item()
    shown = objective.samples()
    assert shown is not None
    assert shown.shape == (2 * 32, 8 * 32, 3)

    model = shutil.copytree(tiny_folder, tmp_path / "model")
    weights = model / "unet.safetensors"
    assert decoder_beside(weights) is None
    exported = tmp_path / "run" / "export" / "taesd_decoder.safetensors"
    path = Path(shutil.copy(exported, model))
    assert decoder_beside(weights) == path
    latents = tiny_model.encode_images(batch)
    pixels = Preview(tiny_model, decoder_beside(weights)).pixels(latents)
    assert pixels.shape == (8, 32, 32, 3)
    with torch.no_grad():
        assert torch.allclose(load_tiny_decoder(path)(latents), objective.decoder(latents), atol=1e-5)


def test_a_single_file_has_its_own(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    (tmp_path / "taesd_decoder.safetensors").touch()  # of whatever else lies there
    assert decoder_beside(model) is None
    own = tmp_path / "model.taesd_decoder.safetensors"
    own.touch()
    assert decoder_beside(model) == own


def test_pictures_that_the_first_stage_does_not_take(tiny_folder: Path) -> None:
    loop = LoopConfig(steps=1, batch_size=1, lr=1e-3)
    with pytest.raises(InputError, match=r"data.size is 12, expected is a multiple of"):
        PreviewObjective(PreviewRecipe(loop, PictureBookConfig(12, 8), str(tiny_folder)))
