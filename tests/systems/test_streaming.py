"""Systems whose weights come to the device for their work: the same results, and how much is there at once."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow import narrow
from narrow_checkpoints import write_vocabulary
from torch import nn

from darkroom.conditioning.boxes import Box
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.systems import SYSTEMS
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.streaming import stream
from darkroom.types import Guidance, Request


def random_values(model: LatentDiffusion) -> LatentDiffusion:
    torch.manual_seed(0)
    for p in model.parameters():
        p.data = torch.randn_like(p) * (0.2 if p.dim() == 1 else p[0].numel() ** -0.5)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("sdxl-base", {"caption": "a cat"}),
        ("sd-v2-depth", {"caption": "a cat", "depth": torch.rand(3, 64, 64) * 2 - 1}),
        ("sd-v2-1-unclip-l", {"caption": "a cat", "image_prompt": torch.rand(3, 40, 40) * 2 - 1}),
        ("ldm_layout2img-openimages256", {"boxes": [Box(3, 0.1, 0.2, 0.5, 0.6)]}),
        ("ldm_cin256-v2", {"class": 3}),
    ],
)
def test_all_parts_give_the_same_results(name: str, inputs: dict[str, Any], tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    plain = random_values(build(narrow(name)))
    plain.conditioner.look_in(tmp_path)
    streamed = copy.deepcopy(plain)
    streaming = stream(streamed, "cpu")
    assert streamed.device == plain.device
    homes = {p: p.data_ptr() for p in streamed.parameters()}
    x = torch.randn(1, plain.autoencoder.config.latent_channels, 8, 8)
    with torch.inference_mode():
        wanted, found = (m.denoiser(m.condition([inputs]))(x, torch.tensor(3.0)) for m in (plain, streamed))
        assert torch.equal(wanted, found)
        assert torch.equal(plain.decode_latents(x), streamed.decode_latents(x))
        images = torch.rand(1, 3, 64, 64) * 2 - 1
        assert torch.equal(plain.encode_images(images), streamed.encode_images(images))
    assert {p: p.data_ptr() for p in streamed.parameters()} == homes
    assert {p for b in streaming.blocks for p in b.parameters()} < set(homes)


def test_pictures_are_the_same_with_all_that_looks_into_the_network(tiny_model: LatentDiffusion) -> None:
    streamed = copy.deepcopy(tiny_model)
    stream(streamed, "cpu")
    guidance = Guidance(pag_scale=2.0)
    for request in (Request("a red cat", steps=3), Request("a cat", steps=3, deepcache_interval=2, guidance=guidance)):
        wanted, found = (Pipeline(m).generate([request])[0].pixels for m in (tiny_model, streamed))
        assert np.array_equal(wanted, found)


def test_a_target_picture_is_refused(tiny_model: LatentDiffusion) -> None:
    streamed = copy.deepcopy(tiny_model)
    stream(streamed, "cpu")
    pipeline = Pipeline(streamed)
    with pytest.raises(InputError, match="no gradient goes through a model whose weights are streamed"):
        pipeline.generate([Request("a cat", steps=2, target=np.zeros((8, 8, 3), np.uint8))])
    assert pipeline.generate([Request("a cat", steps=2)])[0].pixels.shape == (32, 32, 3)


def test_a_first_stage_that_overflows_is_wide_before_it_is_streamed() -> None:
    model = random_values(build(narrow("sdxl-base"), dtype=torch.float16))
    stream(model, "cpu")
    assert {p.dtype for p in model.autoencoder.parameters()} == {torch.float32}
    with torch.inference_mode():
        assert torch.isfinite(model.decode_latents(torch.randn(1, 4, 8, 8).half())).all()
    assert {p.dtype for p in model.autoencoder.parameters()} == {torch.float32}


def test_of_sdxl_half_a_gigabyte_is_on_the_device_at_once() -> None:
    model = build(SYSTEMS["sdxl-base"], "meta", torch.float16)
    streaming = stream(model, "meta")
    streamed = sum(_bytes(b) for b in streaming.blocks)
    rest = _bytes(model) - streamed
    assert streamed > 6 * 10**9
    assert rest + sum(b.numel() for b in streaming.buffers) < 0.5 * 2**30


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.itemsize for p in module.parameters())
