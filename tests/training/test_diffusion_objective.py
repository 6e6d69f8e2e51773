"""The diffusion recipe: latents that are encoded once, and a run from a first stage to a system that draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.checkpoints.native import load_system, write_network
from darkroom.data.picturebook.caption import Chances
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.diffusion.objective import DiffusionLossConfig
from darkroom.errors import InputError
from darkroom.models.autoencoder import Autoencoder
from darkroom.pixels import to_tensor
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.training.config import LoopConfig
from darkroom.training.diffusion import DiffusionObjective, DiffusionRecipe, latent_cache, maps_cache
from darkroom.training.loop import train

SMALL = replace(PICTUREBOOK.autoencoder, channels=32, channel_mult=(1, 1), decoder_res_blocks=1)


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(SMALL).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def first_stage(autoencoder: Autoencoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("first") / "autoencoder.safetensors"
    write_network(path, autoencoder, SMALL, {})
    return path


def recipe(first_stage: Path, folder: Path) -> DiffusionRecipe:
    return DiffusionRecipe(
        loop=LoopConfig(steps=2, batch_size=2, learning_rate=1e-3, precision="fp32", log_every=1, ema_decay=0.5),
        data=PictureBookConfig(32, 6), system="picturebook", autoencoder=first_stage, cache=folder / "cache",
        loss=DiffusionLossConfig(), prompts=("a red house",), guidance=2.0, things_weight=0.3,
    )  # fmt: skip


def test_latents_are_encoded_once_and_stay(autoencoder: Autoencoder, tmp_path: Path) -> None:
    data = PictureBook(PictureBookConfig(32, 5))
    cache = latent_cache(tmp_path / "cache", autoencoder, data, half=False)
    assert list(tmp_path.iterdir()) == []  # nothing before it is needed
    latents = torch.from_numpy(cache.get([3, 1, 3])).float()
    assert latents.shape == (3, 8, 4, 4)
    expected = autoencoder.encode(to_tensor(np.stack([data.image(i) for i in (3, 1, 3)])))
    assert torch.allclose(latents, expected, atol=2e-3)  # as fp16 keeps them
    again = latent_cache(tmp_path / "cache", autoencoder, data, half=False)
    again.compute = pytest.fail  # type: ignore[assignment]  # nothing may be encoded again
    assert np.array_equal(again.get([1]), cache.get([1]))


def test_what_one_precision_encodes_the_other_does_not_read(autoencoder: Autoencoder, tmp_path: Path) -> None:
    data = PictureBook(PictureBookConfig(32, 2))
    wide, narrow = (latent_cache(tmp_path, autoencoder, data, half=half).get([0]) for half in (False, True))
    assert len(list(tmp_path.iterdir())) == 2
    assert not np.array_equal(wide, narrow)
    assert np.allclose(wide, narrow, atol=0.05)


def test_other_captions_of_the_same_scenes_share_latents_and_maps(autoencoder: Autoencoder, tmp_path: Path) -> None:
    plain = PictureBookConfig(32, 2)
    for config in (plain, replace(plain, chances=Chances(sky=1.0))):
        latent_cache(tmp_path, autoencoder, PictureBook(config), half=False).get([0])
        assert np.array_equal(
            maps_cache(tmp_path, PictureBook(config)).get([1])[0], PictureBook(plain).things_map(1, 32)
        )
    assert len(list(tmp_path.iterdir())) == 2
    latent_cache(tmp_path, autoencoder, PictureBook(replace(plain, seed=1)), half=False).get([0])
    assert len(list(tmp_path.iterdir())) == 3


def test_a_cache_that_cannot_be_kept(autoencoder: Autoencoder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"latents-.* cannot be kept in .*file is no folder"):
        latent_cache(tmp_path / "file" / "cache", autoencoder, PictureBook(PictureBookConfig(32, 2)), half=False)


def test_a_run_goes_from_a_first_stage_to_a_system(first_stage: Path, tmp_path: Path) -> None:
    r = recipe(first_stage, tmp_path)
    torch.manual_seed(0)
    objective = DiffusionObjective(r)
    batches = [objective.batch(1, 2) for _ in range(2)]
    assert torch.equal(batches[0][0], batches[1][0])
    assert all(torch.equal(batches[0][1][k], batches[1][1][k]) for k in batches[0][1])
    objective = DiffusionObjective(r)
    before = objective.model.unet.conv_out.weight.detach().clone()
    train(objective, r.loop, tmp_path / "run", recipe=r)
    assert not torch.equal(objective.model.unet.conv_out.weight, before)
    assert (tmp_path / "run" / "samples" / "0000002.png").exists()
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert all(name in log for name in ("loss/diffusion", "loss at t", "kinds", "colours", "images_per_second"))
    exported = load_system(tmp_path / "run" / "export")
    assert exported.system.autoencoder == SMALL
    weight = objective.model.unet.conv_out.weight
    assert torch.allclose(exported.unet.conv_out.weight.float(), weight, atol=0.01)


def test_a_first_stage_of_other_latents_is_refused(tmp_path: Path) -> None:
    other = replace(SMALL, latent_channels=4, z_channels=4)
    write_network(tmp_path / "other.safetensors", Autoencoder(other), other, {})
    with pytest.raises(InputError, match=r"the latent_channels of .* is 4, wanted is 8 for picturebook"):
        DiffusionObjective(recipe(tmp_path / "other.safetensors", tmp_path))
