"""What each embedder takes out of a request."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from darkroom.conditioning.boxes import Box, Boxes, BoxesConfig, Layout
from darkroom.conditioning.depth import Depth, DepthMapConfig
from darkroom.conditioning.embedder import Embedder
from darkroom.conditioning.features import Vectors, VectorsConfig
from darkroom.conditioning.image_prompt import ImagePrompt, ImagePromptConfig
from darkroom.conditioning.low_resolution import LowResolution, LowResolutionConfig
from darkroom.conditioning.masked_image import MaskedImage, MaskedImageConfig
from darkroom.conditioning.noise_level import NoiseLevels
from darkroom.conditioning.segmentation import Segmentation, SegmentationConfig
from darkroom.conditioning.size_and_crop import Numbers, NumbersConfig
from darkroom.errors import InputError
from darkroom.models.depth import DepthConfig
from darkroom.models.vision import VisionConfig
from darkroom.systems import EMBEDDERS, SYSTEMS
from darkroom.types import Request, Size

SIZE = Size(16, 24)
PHOTO = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
VISION = VisionConfig(16, 1, 2, "gelu", 8, image_size=28)
DEPTH = DepthConfig(32, (128, 128, 128), (1, 1, 1), 16, 2, 2, (0, 1), 8, image_size=64)
LEVELS = NoiseLevels("scaled_linear", 0.0001, 0.02, highest=349)


def read(embedder: Embedder, request: Request | None = None, **inputs: Any) -> Any:
    return embedder.read(request or Request(inputs=inputs), SIZE, Generator().manual_seed(3))


def unit(*shape: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(3))


def test_sizes_are_the_pictures_unless_said():
    original, crop = (Numbers(NumbersConfig(key, (0, 0))) for key in ("original_size", "crop"))  # type: ignore[arg-type]
    assert read(original) == SIZE
    assert read(crop) == (0, 0)
    assert read(original, original_size=(5, 6)) == (5, 6)


def test_boxes_come_as_files_hold_them():
    boxes = Boxes(BoxesConfig(classes=8, width=8, layers=1, heads=1, head_dim=8))
    entry = {"label": 1, "x0": 0.0, "y0": 0.0, "x1": 0.5, "y1": 0.5}
    assert read(boxes, boxes=[entry, Box(**entry)]) == Layout((Box(**entry), Box(**entry)))
    for wrong in ([{"label": 1}], [3], "boxes", [{**entry, "x0": "left"}], 7):
        with pytest.raises(InputError, match="expected"):
            read(boxes, boxes=wrong)


def test_maps_come_to_the_pictures_size():
    classes = Segmentation(SegmentationConfig(classes=4, channels=2, halvings=0))
    found = read(classes, segmentation=np.array([[0, 1], [2, 3]], np.uint8))
    assert found.shape == (16, 24)
    assert (found[0, 0], found[0, -1], found[-1, 0], found[-1, -1]) == (0, 1, 2, 3)
    for wrong in (PHOTO, np.ones((2, 2)), np.zeros((0, 2), int)):
        with pytest.raises(InputError, match="expected are classes"):
            read(classes, segmentation=wrong)
    depth = Depth(DepthMapConfig(DEPTH, 8))
    assert read(depth, depth=np.ones((4, 4), np.float32)).shape == (1, 16, 24)
    assert read(depth, Request(image=PHOTO)).shape == (3, 16, 24)
    with pytest.raises(InputError, match="depth has shape"):
        read(depth, depth=np.ones((4, 4, 2)))


def test_noise_on_small_pictures_and_image_prompts_is_the_pictures_own():
    noised = LowResolution(LowResolutionConfig(LEVELS, default_level=20))
    small = read(noised, Request(image=PHOTO))
    assert small.noise_level == 20
    assert torch.equal(small.noise, unit(3, 16, 24))
    assert read(noised, low_resolution=PHOTO, noise_level=7).noise_level == 7
    assert read(LowResolution(LowResolutionConfig()), Request(image=PHOTO)).noise is None
    prompt = read(ImagePrompt(ImagePromptConfig(VISION, LEVELS)), Request(image=PHOTO, inputs={"noise_level": 5}))
    assert (prompt.noise_level, prompt.noise.tolist()) == (5, unit(VISION.projection).tolist())
    for wrong in ("5", 1.5, True):
        with pytest.raises(InputError, match="noise level is"):
            read(noised, low_resolution=PHOTO, noise_level=wrong)


def test_a_mask_comes_with_its_picture_at_the_size():
    masked = MaskedImage(MaskedImageConfig("mask_first"))
    mask = np.zeros((8, 12), np.uint8)
    mask[:4] = 200
    found = read(masked, Request(image=PHOTO, mask=mask))
    assert found.image.shape == (3, 16, 24)
    assert found.mask[0, :8].all()
    assert not found.mask[0, 8:].any()
    assert read(masked, Request(image=PHOTO)) is None


def test_vectors_come_as_numbers_of_any_kind():
    vectors = Vectors(VectorsConfig(2, "neighbours"))
    assert read(vectors, neighbours=[[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(InputError, match="neighbours is no table"):
        read(vectors, neighbours=[["a"], []])


def test_every_embedder_of_the_catalogue_says_what_it_reads_and_what_it_needs():
    configs = {c for system in SYSTEMS.values() for c in system.embedders}
    assert {type(c) for c in configs} == set(EMBEDDERS)
    assert all(c.reads and c.key for c in configs)
    needed = {c.kind for c in configs if c.required}
    assert needed == {"class_label", "depth", "low_resolution", "masked_image", "segmentation"}
    whole = Request(image=PHOTO, mask=PHOTO[..., 0], inputs={"segmentation": PHOTO[..., 0], "class": 3})
    for config in configs:
        if config.required:
            assert config.is_given(whole)
            assert not config.is_given(Request())
