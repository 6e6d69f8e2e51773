from dataclasses import replace

import numpy as np
import pytest
import torch

from darkroom.conditioning.low_resolution import LowResolutionConfig
from darkroom.engine.pipeline import Pipeline, Progress
from darkroom.engine.upscale import upscale
from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.system import System
from darkroom.types import Request


@pytest.fixture
def pipeline(tiny_system: System) -> Pipeline:
    system = replace(
        tiny_system,
        unet=replace(tiny_system.unet, in_channels=11),
        embedders=(*tiny_system.embedders, LowResolutionConfig()),
    )
    torch.manual_seed(0)
    model: LatentDiffusion = build(system).eval().requires_grad_(False)
    for p in model.parameters():
        p.add_(0.02 * torch.randn_like(p))
    return Pipeline(model)


def enlarged(pipeline: Pipeline, *images: np.ndarray, **options: int) -> list[np.ndarray]:
    requests = [Request("a cat", steps=2, image=i, seed=3) for i in images]
    done = dict(e for e in upscale(pipeline, requests, **options) if not isinstance(e, Progress))
    return [done[i].pixels for i in range(len(images))]


def test_sides_grow_by_the_factor_whatever_they_are(pipeline: Pipeline) -> None:
    factor = pipeline.model.system.autoencoder.factor
    rng = np.random.default_rng(0)
    sizes = [(4, 4), (5, 7), (20, 9), (1, 3)]
    images = [rng.integers(0, 256, (*s, 3), np.uint8) for s in sizes]
    pictures = enlarged(pipeline, *images, tile=8, overlap=2)
    assert [p.shape for p in pictures] == [(h * factor, w * factor, 3) for h, w in sizes]


def test_a_picture_of_one_tile_is_the_plain_run(pipeline: Pipeline) -> None:
    image = np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)
    plain = pipeline.generate([Request("a cat", steps=2, image=image, seed=3)])[0]
    assert np.array_equal(enlarged(pipeline, image)[0], plain.pixels)


def test_what_cannot_be_enlarged(pipeline: Pipeline, tiny_model: LatentDiffusion) -> None:
    with pytest.raises(InputError, match="tiny is no super-resolution system"):
        list(upscale(Pipeline(tiny_model), [Request()]))
    with pytest.raises(InputError, match="one must be given"):
        list(upscale(pipeline, [Request()]))
    with pytest.raises(InputError, match="tiles of 7"):
        list(upscale(pipeline, [Request()], tile=7))
