"""The diffusion recipe: latents that are encoded once, and a run from a first stage to a system that draws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkroom.checkpoints.native import load_system, write_network
from darkroom.data.picturebook.caption import Chances
from darkroom.data.reader import Reader
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.diffusion.objective import DiffusionLossConfig
from darkroom.errors import InputError
from darkroom.models.autoencoder import Autoencoder
from darkroom.pixels import to_tensor
from darkroom.systems import SYSTEMS, System
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.training.config import LoopConfig, OptimizerConfig
from darkroom.training.diffusion import DiffusionObjective, DiffusionRecipe
from darkroom.training.latent_cache import LatentCache
from darkroom.training.loop import train
from darkroom.training.text import TextObjective, TextRecipe
from darkroom.training.things_head import ThingsMaps
from darkroom.types import Size

SMALL = replace(PICTUREBOOK.autoencoder, channels=32, channel_mult=(1, 1), decoder_res_blocks=1)


@pytest.fixture(autouse=True)
def narrow_picturebook(tiny_system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """What these recipes call picturebook has a hundredth of its parameters."""
    monkeypatch.setitem(SYSTEMS._entries, "picturebook", replace(tiny_system, name="picturebook"))


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(SMALL).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def first_stage(autoencoder: Autoencoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("first") / "autoencoder.safetensors"
    write_network(path, autoencoder, SMALL, {})
    return path


def recipe(first_stage: Path, folder: Path, **changes: Any) -> DiffusionRecipe:
    plain = DiffusionRecipe(
        loop=LoopConfig(steps=2, batch_size=2, lr=1e-3, precision="fp32", log_every=1, ema_decay=0.5),
        data=PictureBookConfig(32, 6), model="picturebook:fresh", vae=str(first_stage), latent_cache=folder / "cache",
        prompts=("a red house",), samples={"guidance_scale": 2.0}, things_weight=0.3,
    )  # fmt: skip
    return replace(plain, **changes)


def cached(folder: Path, autoencoder: Autoencoder, config: PictureBookConfig, *, half: bool = False) -> LatentCache:
    return LatentCache(folder, autoencoder, Reader(PictureBook(config), None, 2, 0), half=half)


def latents_of(cache: LatentCache, indices: list[int], *, flipped: bool = False) -> torch.Tensor:
    data, size = cache.reader.dataset, Size(32, 32)
    rng = np.random.default_rng(0)
    fresh = [None if cache.has(size, i, flipped=flipped) else data.sample(i, rng).image for i in indices]
    fresh = [p if p is None or not flipped else p[:, ::-1] for p in fresh]
    return cache.get(size, [(i, flipped) for i in indices], fresh)


def test_latents_are_encoded_once_and_stay(
    autoencoder: Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = PictureBookConfig(32, 5)
    cache = cached(tmp_path / "cache", autoencoder, config)
    assert list(tmp_path.iterdir()) == []  # nothing before it is needed
    latents = latents_of(cache, [3, 1, 3])
    assert latents.shape == (3, 8, 4, 4)
    images = np.stack([PictureBook(config).image(i) for i in (3, 1, 3)])
    assert torch.allclose(latents, autoencoder.encode(to_tensor(images)), atol=2e-3)  # as fp16 keeps them
    mirrored = latents_of(cache, [1], flipped=True)
    assert torch.allclose(mirrored, autoencoder.encode(to_tensor(images[1:2, :, ::-1].copy())), atol=2e-3)
    again = cached(tmp_path / "cache", autoencoder, config)
    again.check()
    monkeypatch.setattr(again, "_encode", pytest.fail)  # nothing may be encoded again
    assert torch.equal(latents_of(again, [1]), latents[1:2])


def test_a_cache_that_pairs_pictures_wrongly_is_found_out(autoencoder: Autoencoder, tmp_path: Path) -> None:
    cache = cached(tmp_path, autoencoder, PictureBookConfig(32, 5))
    latents_of(cache, [0, 1, 2])
    rows = cache.caches[Size(32, 32)].rows["row"]
    rows[[0, 4]] = rows[[4, 0]]
    with pytest.raises(InputError, match=r"latents-.* holds something else for scene 0 than is computed now: remove"):
        cached(tmp_path, autoencoder, PictureBookConfig(32, 5)).check()


def test_what_one_precision_encodes_the_other_does_not_read(autoencoder: Autoencoder, tmp_path: Path) -> None:
    config = PictureBookConfig(32, 2)
    wide, narrow = (latents_of(cached(tmp_path, autoencoder, config, half=half), [0]) for half in (False, True))
    assert len(list(tmp_path.iterdir())) == 2
    assert not torch.equal(wide, narrow)
    assert torch.allclose(wide, narrow, atol=0.05)


def test_other_captions_of_the_same_scenes_share_latents_and_maps(autoencoder: Autoencoder, tmp_path: Path) -> None:
    plain = PictureBookConfig(32, 2)
    for config in (plain, replace(plain, chances=Chances(sky=1.0))):
        latents_of(cached(tmp_path, autoencoder, config), [0])
        maps = ThingsMaps(PictureBook(config), tmp_path).get([1])
        assert np.array_equal(maps[0], PictureBook(plain).things_map(1, 32))
    assert len(list(tmp_path.iterdir())) == 2
    latents_of(cached(tmp_path, autoencoder, replace(plain, seed=1)), [0])
    assert len(list(tmp_path.iterdir())) == 3


def test_a_cache_that_cannot_be_kept(autoencoder: Autoencoder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"latents-.* cannot be kept in .*file is no folder"):
        cached(tmp_path / "file" / "cache", autoencoder, PictureBookConfig(32, 2))


def test_a_run_goes_from_a_first_stage_to_a_system(first_stage: Path, tmp_path: Path) -> None:
    r = recipe(first_stage, tmp_path)
    r = replace(r, loop=replace(r.loop, optimizers={k: OptimizerConfig(lr=1e-2) for k in ("input", "caption")}))
    torch.manual_seed(0)
    objective = DiffusionObjective(r)
    by_name = dict(objective.trained.named_parameters())
    names = ("unet.conv_out.weight", "unet.conv_in.weight", "embedders.caption.transformer.norm.weight")
    ends = [by_name[name] for name in names]
    before = [end.detach().clone() for end in ends]
    train(objective, r.loop, tmp_path / "run", recipe=r)
    moved = [float((end.detach() - b).abs().max()) for end, b in zip(ends, before)]
    assert 0 < moved[0] < 2.1e-3 < 5e-3 < min(moved[1:]), "two steps of AdamW, at the rate of each"
    assert (tmp_path / "run" / "samples" / "0000002.png").exists()
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert all(name in log for name in ("loss/diffusion", "loss at t", "kinds", "colours", "images_per_second"))
    ledger = [json.loads(line) for line in (tmp_path / "run" / "ledger.jsonl").open()]
    assert [line["number"] for line in ledger] == [0, 1, 2, 3]
    assert all(line["name"].startswith("scene") and line["caption"] for line in ledger)
    exported = load_system(tmp_path / "run" / "export")
    assert exported.system.autoencoder == SMALL
    weight = objective.model.unet.conv_out.weight
    assert torch.allclose(exported.unet.conv_out.weight.float(), weight, atol=0.01)


def test_a_run_goes_on_from_what_another_exported(first_stage: Path, tmp_path: Path, tiny_folder: Path) -> None:
    r = recipe(first_stage, tmp_path, model=str(tiny_folder), vae=None, things_weight=0.0, prompts=())
    objective = DiffusionObjective(r)
    theirs = load_system(tiny_folder).unet.state_dict()
    assert all(torch.equal(t, theirs[k]) for k, t in objective.model.unet.state_dict().items())
    assert all(p.requires_grad for p in objective.trained.parameters())
    assert not any(p.requires_grad for p in objective.model.autoencoder.parameters())


def test_however_a_step_is_cut_its_loss_is_the_same(first_stage: Path, tmp_path: Path) -> None:
    """Times, noise and dropped captions come from each sample's place."""
    found = []
    for batch_size, pieces in ((4, 1), (2, 2), (1, 4)):
        loop = LoopConfig(steps=1, batch_size=batch_size, grad_accumulation=pieces, lr=1e-3, precision="fp32")
        loss = DiffusionLossConfig(offset_noise=0.1, last_share=0.25, late_share=0.25, min_snr_gamma=5.0)
        r = recipe(first_stage, tmp_path, loop=loop, loss=loss, things_weight=0.0, prompts=())
        torch.manual_seed(0)
        train(DiffusionObjective(r), loop, tmp_path / str(pieces), recipe=r)
        line = json.loads((tmp_path / str(pieces) / "log.jsonl").read_text().splitlines()[0])
        found.append([line["loss/diffusion"], line["gradient/diffusion"]])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
    assert found[2] == pytest.approx(found[0], rel=1e-3)


def test_a_first_stage_of_other_latents_is_refused(tmp_path: Path) -> None:
    other = replace(SMALL, latent_channels=4, z_channels=4)
    write_network(tmp_path / "other.safetensors", Autoencoder(other), other, {})
    with pytest.raises(InputError, match=r"the latent_channels of .* is 4, expected is 8 for picturebook"):
        DiffusionObjective(recipe(tmp_path / "other.safetensors", tmp_path))


def test_a_text_transformer_that_is_handed_in_learns_no_more(first_stage: Path, tmp_path: Path) -> None:
    loop = LoopConfig(steps=1, batch_size=2, lr=1e-3, precision="fp32")
    alone = TextObjective(TextRecipe(loop, PictureBookConfig(32, 6), "picturebook"))
    alone.export(tmp_path, {})
    asked = recipe(first_stage, tmp_path, text=tmp_path / "text.safetensors", prompts=(), loop=replace(loop, lr=1e-2))
    objective = DiffusionObjective(asked)
    train(objective, asked.loop, tmp_path / "run", recipe=asked)
    exported = (
        load_system(tmp_path / "run" / "export", dtype=torch.float32).conditioner.embedders["caption"].state_dict()
    )
    given = alone.text.state_dict()
    assert all(torch.equal(exported[k].bfloat16(), t.bfloat16()) for k, t in given.items())
    assert not any("caption" in name for name, _ in objective.trained.named_parameters())
