"""Sizes that pictures are brought to, and what is done to them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.data.buckets import SDXL_SIZES, BucketConfig, Bucketing, cover
from darkroom.errors import InputError
from darkroom.types import Sample, Size

ASPECT = BucketConfig(512, "aspect")
sides = st.integers(16, 4000)


def ramp(height: int, width: int) -> Sample:
    """A picture whose red says the row and whose green says the column, as shares of 255; a map with the same."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, height).round()[:, None]
    image[..., 1] = np.linspace(0, 255, width).round()
    return Sample(image, {"segmentation": image[..., 1].astype(np.int32), "caption": "a"}, Size(height, width))


def test_sdxl_has_its_forty_sizes() -> None:
    assert len(SDXL_SIZES) == len(set(SDXL_SIZES)) == 40
    assert all(s.height % 64 == s.width % 64 == 0 for s in SDXL_SIZES)
    areas = [s.height * s.width / 1024**2 for s in SDXL_SIZES]
    assert min(areas) == pytest.approx(0.902, abs=1e-3)
    assert max(areas) == 1.0
    turned = {Size(s.width, s.height) for s in SDXL_SIZES}
    assert turned - set(SDXL_SIZES) == {Size(1344, 704)}
    assert Bucketing(BucketConfig(1024, "sdxl")).size(Size(1216, 832)) == Size(1216, 832)
    assert Bucketing(BucketConfig(64, "sdxl", step=4)).size(Size(1216, 832)) == Size(76, 52)


@settings(max_examples=100, deadline=None)
@given(height=sides, width=sides, upscale=st.booleans())
def test_a_bucket_keeps_the_rules(height: int, width: int, upscale: bool) -> None:
    size = Bucketing(replace(ASPECT, upscale=upscale)).size(Size(height, width))
    assert size.height % 64 == size.width % 64 == 0
    assert size.height * size.width <= 512**2
    if upscale:
        assert all(256 <= side <= 1024 for side in (size.height, size.width))
        # Within the ratios that there are, no other bucket is nearer.
        own = abs(math.log(size.width / size.height) - math.log(width / height))
        others = [abs(math.log(s.width / s.height) - math.log(width / height)) for s in Bucketing(ASPECT).sizes]
        assert own == pytest.approx(min(others))
    elif min(height, width) >= 64:
        assert size.height <= height
        assert size.width <= width


@pytest.mark.parametrize("crop", ["center", "random"])
@pytest.mark.parametrize("size", [Size(48, 48), Size(32, 80), Size(80, 32)])
def test_a_fit_records_what_was_done(crop: str, size: Size) -> None:
    bucketing = Bucketing(BucketConfig(64, crop=crop))  # type: ignore[arg-type]
    sample = ramp(100, 200)
    fitted = bucketing.fit(sample, size, np.random.default_rng(0))
    assert fitted.image.shape == (size.height, size.width, 3)
    assert (fitted.original_size, fitted.target_size) == (Size(100, 200), size)
    scale = max(size.height / 100, size.width / 200)
    # The middle of the result shows the place of the picture that the record says.
    row = (fitted.crop[0] + size.height / 2) / (100 * scale)
    column = (fitted.crop[1] + size.width / 2) / (200 * scale)
    middle = fitted.image[size.height // 2, size.width // 2].astype(float)
    assert middle[0] == pytest.approx(255 * row, abs=6)
    assert middle[1] == pytest.approx(255 * column, abs=6)
    assert np.abs(fitted.conditions["segmentation"] - fitted.image[..., 1].astype(int)).max() <= 8
    again = bucketing.fit(sample, size, np.random.default_rng(0))
    assert np.array_equal(again.image, fitted.image)


def test_flipped_and_cut_boxes() -> None:
    sample = replace(
        ramp(100, 200), conditions={"boxes": ((3, 0.0, 0.2, 0.5, 0.6, True), (4, 0.9, 0.0, 1.0, 1.0, False))}
    )
    plain = cover(sample, Size(100, 100))  # columns 50 to 150 are left
    assert plain.crop == (0, 50)
    assert plain.conditions["boxes"] == ((3, 0.0, 0.2, 0.5, 0.6, True),)
    mirrored = cover(sample, Size(100, 100), flip=True)
    assert mirrored.conditions["boxes"] == ((3, 0.5, 0.2, 1.0, 0.6, True),)
    assert np.array_equal(mirrored.image, plain.image[:, ::-1])
    assert mirrored.flipped
    bucketing = Bucketing(BucketConfig(64, flip=True))
    flips = [bucketing.fit(sample, Size(64, 64), np.random.default_rng(i)).flipped for i in range(20)]
    assert 4 < sum(flips) < 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 500}, "resolution is 500, .* a multiple of step, which is 64"),
        ({"step": 0}, "step is 0"),
        ({"shortest": 600}, "shortest is 600"),
        ({"longest": 500}, "longest is 500"),
        ({"shapes": "sdxl", "step": 48, "resolution": 528}, "a multiple of 768 for SDXL's sizes"),
    ],
)
def test_buckets_that_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(ASPECT, **changes)  # type: ignore[arg-type]
