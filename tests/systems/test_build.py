"""Every kind of system, narrow but whole: inputs in, one denoising step, picture out."""

import json
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from narrow import narrow
from torch import Generator, Tensor

from darkroom.checkpoints.native import load_system, save_system
from darkroom.conditioning.boxes import Box
from darkroom.conditioning.image_prompt import PromptImage
from darkroom.conditioning.low_resolution import Small
from darkroom.conditioning.masked_image import Masked
from darkroom.systems.build import LatentDiffusion, build

SIDE = 64


def picture(side: int = SIDE) -> Tensor:
    return torch.rand(3, side, side, generator=Generator().manual_seed(0)) * 2 - 1


def hole() -> Tensor:
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, :16] = 1.0
    return mask


INPUTS: dict[str, dict[str, Any]] = {
    "ldm_celeba256": {},
    "ldm_lsun_churches256": {},
    "ldm_cin256-v2": {"class": 3},
    "ldm_text2img256": {"caption": "cat"},
    "ldm_layout2img-openimages256": {"boxes": [Box(3, 0.1, 0.1, 0.9, 0.5)]},
    "ldm_layout2img-coco256": {"boxes": [Box(3, 0.1, 0.1, 0.9, 0.5)]},
    "ldm_semantic_synthesis256": {"segmentation": torch.ones(SIDE, SIDE, dtype=torch.long)},
    "ldm_bsr_sr": {"low_resolution": picture(SIDE // 4)},
    "ldm_inpainting_big": {"masked_image": Masked(picture(), hole())},
    "ldm_rdm768x768": {"neighbours": torch.ones(4, 16)},
    "sd-v1-5": {"caption": "a cat"},
    "sd-v1-5-inpainting": {"caption": "a cat", "masked_image": Masked(picture(), hole())},
    "sd-v2-768-v": {"caption": "a cat"},
    "sd-v2-depth": {"caption": "a cat", "depth": picture()},
    "sd-x4-upscaler": {"caption": "a cat", "low_resolution": Small(picture(SIDE // 4), 30, torch.ones(3, 16, 16))},
    "sd-v2-1-unclip-l": {"caption": "a cat", "image_prompt": PromptImage(picture(), 10)},
    "sdxl-base": {"caption": "a cat", "original_size": (SIDE, SIDE), "crop": (0, 8)},
    "sdxl-refiner": {"caption": "a cat", "aesthetic_score": 5.5},
    "sdxl-turbo": {"caption": "a cat"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's folder with the two vocabularies."""
    folder = tmp_path_factory.mktemp("checkpoint")
    letters = string.ascii_lowercase
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat"]))
    return folder


def ready(name: str, folder: Path) -> LatentDiffusion:
    torch.manual_seed(0)
    model = build(narrow(name)).eval()
    with torch.no_grad():
        for p in model.unet.parameters():  # zero-initialised layers too: else no condition would matter
            p.add_(0.05 * torch.randn(p.shape))
    model.conditioner.look_in(folder)
    return model


@pytest.mark.parametrize("name", INPUTS)
@torch.no_grad()
def test_one_step_of_every_kind_of_system(name: str, folder: Path):
    model = ready(name, folder)
    told = model.condition([INPUTS[name]] * 2)
    null = model.condition([model.conditioner.unconditional(INPUTS[name], negative) for negative in ("", "dog")])
    c = model.system.autoencoder
    size = max(SIDE, c.factor * 2 ** (len(model.system.unet.channel_mult) - 1))
    side = size // c.factor
    x = torch.randn(2, c.latent_channels, side, side)
    outputs = [model.denoiser(given)(x, torch.tensor(1.0)) for given in (told, null)]
    denoise = model.denoiser(told)
    denoise(x, torch.tensor(2.0))
    assert torch.equal(denoise(x, torch.tensor(1.0)), outputs[0])  # whatever is kept from step to step
    for x0 in outputs:
        assert x0.shape == x.shape
        assert torch.isfinite(x0).all()
    if "caption" in INPUTS[name]:
        assert not torch.allclose(*outputs)
    images = model.decode_latents(outputs[0])
    assert images.shape == (2, 3, size, size)


def test_only_what_was_trained_with_the_denoiser_is_trained_with_it():
    def trainable(name: str) -> set[str]:
        conditioner = build(narrow(name), "meta").conditioner
        return {n.split(".")[1] for n, p in conditioner.named_parameters() if p.requires_grad}

    assert trainable("sdxl-base") == set()
    assert trainable("sd-v2-depth") == set()
    assert trainable("sd-v2-1-unclip-h") == set()
    assert trainable("ldm_text2img256") == {"caption"}
    assert trainable("ldm_semantic_synthesis256") == {"segmentation"}


@torch.no_grad()
def test_a_picture_and_its_latent_meet_at_the_systems_scale(folder: Path):
    model = ready("sd-v1-5", folder)
    z = model.encode_images(picture()[None])
    torch.testing.assert_close(z, model.autoencoder.encode(picture()[None]) * 0.18215)
    torch.testing.assert_close(model.decode_latents(z), model.autoencoder.decode(z / 0.18215))


@torch.no_grad()
def test_sdxl_without_negative_prompt_is_guided_away_from_zeros(folder: Path):
    model = ready("sdxl-base", folder)
    inputs = {"caption": "a cat", "crop": (3, 4)}
    zero, told = (model.condition([model.conditioner.unconditional(inputs, text)]) for text in ("", "a dog"))
    assert not zero.tokens.any()
    assert not zero.vector[:, :16].any()
    assert told.tokens.any()
    torch.testing.assert_close(zero.vector[:, 16:], told.vector[:, 16:])  # sizes stay
    refiner = ready("sdxl-refiner", folder)
    assert refiner.condition([refiner.conditioner.unconditional(inputs)]).tokens.any()


@torch.no_grad()
def test_the_refiner_is_guided_away_from_a_low_score(folder: Path):
    model = ready("sdxl-refiner", folder)
    by_hand = model.condition([{"caption": "", "aesthetic_score": 2.5}])
    null = model.condition([model.conditioner.unconditional({"caption": "a cat"})])
    torch.testing.assert_close(null.vector, by_hand.vector)


@torch.no_grad()
def test_a_first_stage_that_overflows_runs_in_float32(folder: Path):
    model = ready("sdxl-base", folder).half()
    images = model.decode_latents(torch.randn(1, 4, 8, 8).half())
    assert images.dtype == torch.float32
    assert torch.isfinite(images).all()
    assert model.dtype == torch.float16


@pytest.mark.parametrize("name", ["sdxl-base", "sd-v2-1-unclip-l", "ldm_inpainting_big"])
@torch.no_grad()
def test_files_give_back_the_same_system(name: str, folder: Path, tmp_path: Path):
    model = ready(name, folder)
    save_system(model, tmp_path / "system", {}, dtype=torch.float32)
    back = load_system(tmp_path / "system")
    assert back.system == model.system
    state = back.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
