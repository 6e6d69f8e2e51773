"""Every kind of system through the pipeline: what a user gives it, and a picture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow import WIDTH, narrow
from narrow_checkpoints import randomise, write_vocabulary
from safetensors.torch import save_file

from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.models import vocabulary
from darkroom.systems.build import LatentDiffusion, build
from darkroom.types import Request

PHOTO = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
MASK = np.zeros((64, 64), np.uint8)
MASK[:32] = 1
BOX = {"label": 3, "x0": 0.1, "y0": 0.1, "x1": 0.9, "y1": 0.5}

GIVEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # two sets of inputs, which must give two pictures
    "ldm_celeba256": ({"seed": 1}, {"seed": 2}),
    "ldm_cin256-v2": ({"inputs": {"class": 3}}, {"inputs": {"class": 4}}),
    "ldm_text2img-large": ({"prompt": "cat"}, {"prompt": "(cat:1.5)"}),
    "ldm_layout2img-openimages256": ({"inputs": {"boxes": [BOX]}}, {"inputs": {"boxes": [{**BOX, "label": 9}]}}),
    "ldm_semantic_synthesis256": (
        {"inputs": {"segmentation": MASK.astype(np.int32)}},
        {"inputs": {"segmentation": MASK[::2, ::2].astype(np.int32) + 1}},
    ),
    "ldm_bsr_sr": ({"image": PHOTO[::4, ::4].copy()}, {"image": PHOTO[1::4, ::4].copy()}),
    "ldm_inpainting_big": ({"image": PHOTO, "mask": MASK}, {"image": PHOTO[::-1].copy(), "mask": MASK}),
    "sd-v1-5": ({"prompt": "a cat"}, {"prompt": "a cat", "clip_skip": 2}),
    "sd-v1-5-inpainting": ({"image": PHOTO, "mask": MASK}, {"image": PHOTO, "mask": MASK, "strength": 0.5}),
    "sd-v2-768-v": ({"prompt": "a cat"}, {"prompt": "a (cat:1.3) BREAK dog"}),
    "sd-v2-depth": ({"image": PHOTO}, {"width": 64, "height": 64, "inputs": {"depth": MASK[::2].astype(np.float32)}}),
    "sd-x4-upscaler": (
        {"image": PHOTO[::4, ::4].copy()},
        {"image": PHOTO[::4, ::4].copy(), "inputs": {"noise_level": 99}},
    ),
    "sd-v2-1-unclip-l": ({"image": PHOTO}, {"image": PHOTO, "inputs": {"noise_level": 200}}),
    "sdxl-base": ({"prompt": "a cat"}, {"prompt": "a cat", "inputs": {"crop": (0, 32)}}),
    "sdxl-refiner": (
        {"image": PHOTO, "strength": 0.5},
        {"image": PHOTO, "strength": 0.5, "inputs": {"aesthetic_score": 2.5}},
    ),
    "sdxl-turbo": ({"prompt": "a cat", "steps": 1}, {"prompt": "a dog", "steps": 1}),
}


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vocabulary, "CLIP_PACKAGES", ())


def model_of(name: str, folder: Path) -> LatentDiffusion:
    write_vocabulary(folder)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat"]))
    model = build(narrow(name)).eval().requires_grad_(False)
    randomise(model)
    model.conditioner.look_in(folder)
    return model


@pytest.mark.parametrize("name", GIVEN)
def test_inputs_become_pictures(name: str, tmp_path: Path) -> None:
    pipeline = Pipeline(model_of(name, tmp_path))
    plain = {"steps": 2} if "image" in GIVEN[name][0] else {"width": 64, "height": 64, "steps": 2}
    pictures = pipeline.generate([Request(**{**plain, **given}) for given in GIVEN[name]])
    assert all(p.pixels.shape == (64, 64, 3) for p in pictures)
    assert not np.array_equal(pictures[0].pixels, pictures[1].pixels)
    alone = pipeline.generate([Request(**{**plain, **GIVEN[name][1]})])[0]
    assert np.abs(alone.pixels.astype(int) - pictures[1].pixels).max() <= 1


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("ldm_cin256-v2", {"inputs": {"class": 5000}}, "class is 5000, expected is a whole number of 0 to 1000"),
        (
            "ldm_layout2img-openimages256",
            {"inputs": {"boxes": [{**BOX, "x1": 1.5}]}},
            r"box \(0.1, 0.1, 1.5, 0.5\) is wrong",
        ),
        ("ldm_layout2img-openimages256", {"inputs": {"boxes": [{"label": 1}]}}, "expected are label, x0, y0, x1, y1"),
        ("ldm_semantic_synthesis256", {}, "needs a map"),
        ("ldm_semantic_synthesis256", {"inputs": {"segmentation": MASK + 200}}, "segmentation holds class 201"),
        ("ldm_bsr_sr", {}, "needs a small picture to enlarge"),
        ("ldm_inpainting_big", {"image": PHOTO}, "needs a picture and a mask"),
        ("sd-v2-depth", {}, "needs a picture or a depth map"),
        (
            "sd-x4-upscaler",
            {"image": PHOTO[:16, :16].copy(), "inputs": {"noise_level": 900}},
            "the noise level is 900, expected is 0 to 349",
        ),
        ("sd-x4-upscaler", {"image": PHOTO[:16, :16].copy(), "inputs": {"noise_level": "x"}}, "the noise level is 'x'"),
        ("ldm_bsr_sr", {"image": PHOTO[:16, :16].copy(), "inputs": {"noise_level": 3}}, "'noise_level' is given"),
        ("sd-v1-5", {"inputs": {"crop": (0, 0)}}, "'crop' is given, which sd-v1-5 does not read; it reads none"),
        ("sdxl-base", {"inputs": {"orignal_size": (9, 9)}}, "it reads: original_size, "),
        ("sdxl-base", {"inputs": {"prompt": "a cat"}}, "'prompt' is given, which sdxl-base does not read"),
        ("sd-v1-5", {"clip_skip": 0}, "clip skip is 0, expected is 1"),
        ("sd-v1-5", {"clip_skip": 40}, "clip skip is 40, expected is 1"),
    ],
)
def test_wrong_inputs_get_one_sentence(name: str, given: dict[str, Any], message: str, tmp_path: Path) -> None:
    plain = {} if "image" in given else {"width": 64, "height": 64}
    with pytest.raises(InputError, match=message):
        Pipeline(model_of(name, tmp_path)).generate([Request(**{"steps": 2, **plain, **given})])


def test_embeddings_change_the_picture_from_either_prompt(tmp_path: Path) -> None:
    model = model_of("sdxl-base", tmp_path)
    vectors = dict(zip(("clip_l", "clip_g"), torch.randn(2, 2, WIDTH, generator=torch.Generator().manual_seed(0))))
    save_file(vectors, tmp_path / "mine.safetensors")
    pipeline = Pipeline(model, embedding_folders=[tmp_path])
    base = Request("a cat", width=64, height=64, steps=2)
    named = [base, replace(base, prompt="a cat mine"), replace(base, negative_prompt="embedding:mine")]
    pictures = [p.pixels for p in pipeline.generate(named)]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    with pytest.raises(InputError, match="unknown embedding 'yours' in the prompt; known are: mine"):
        pipeline.generate([replace(base, prompt="embedding:yours")])


def test_a_lora_brings_words_along(tmp_path: Path) -> None:
    model = model_of("sd-v1-5", tmp_path)
    key = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    lora = {f"{key}.lora_down.weight": torch.zeros(1, WIDTH), f"{key}.lora_up.weight": torch.zeros(WIDTH, 1)}
    vectors = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    save_file({**lora, "bundle_emb.mine.string_to_param.*": vectors}, tmp_path / "words.safetensors")
    pipeline = Pipeline(model, lora_folders=[tmp_path])
    base = Request("a cat", width=64, height=64, steps=2)
    texts = ("a cat mine", "a cat mine <lora:words:1>", "a cat [mine] <lora:words:1>")
    pictures = [p.pixels for p in pipeline.generate([replace(base, prompt=text) for text in texts])]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[1], pictures[2])
