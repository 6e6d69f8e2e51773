"""Small pictures made from large ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import correlate

from darkroom.data.degradation import DegradationConfig, _filtered, _gaussian, degrade
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.errors import InputError

PICTURE = PictureBook(PictureBookConfig(128, 1)).image(0)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_bicubic_is_pillow_s() -> None:
    small = degrade(PICTURE, 4, DegradationConfig(), np.random.default_rng(0))
    assert np.array_equal(small, Image.fromarray(PICTURE).resize((32, 32), Image.Resampling.BICUBIC))


def test_the_light_chain_is_nearer_the_picture_than_the_whole_one() -> None:
    plain = degrade(PICTURE, 4, DegradationConfig(), np.random.default_rng(0))
    found = {}
    for kind in ("bsr_light", "bsr"):
        small = [degrade(PICTURE, 4, DegradationConfig(kind), np.random.default_rng(i)) for i in range(12)]  # type: ignore[arg-type]
        assert all(s.shape == (32, 32, 3) and s.dtype == np.uint8 for s in small)
        assert not np.array_equal(small[0], small[1])
        found[kind] = np.mean([distance(s, plain) for s in small])
    assert 1 < found["bsr_light"] < 0.8 * found["bsr"] < 40


def test_a_seed_gives_one_degradation() -> None:
    a, b = (degrade(PICTURE[:64, :96], 8, DegradationConfig("bsr"), np.random.default_rng(3)) for _ in range(2))
    assert a.shape == (8, 12, 3)
    assert np.array_equal(a, b)


@pytest.mark.parametrize("side", [5, 14, 25])
def test_blurring_is_a_correlation(side: int) -> None:
    kernel = _gaussian(side, (9.0, 2.0), 0.7, shift=0.5)
    assert kernel.sum() == pytest.approx(1)
    x = np.random.default_rng(0).random((40, 50, 3)).astype(np.float32)
    before = side // 2
    origin = before - side // 2
    ours = _filtered(x, kernel)
    theirs = np.stack([correlate(x[..., i], kernel, mode="reflect", origin=origin) for i in range(3)], axis=-1)
    assert np.abs(ours - theirs).max() < 1e-5


def test_what_cannot_be() -> None:
    with pytest.raises(InputError, match=r"jpeg is \[0, 95\], expected is two rising numbers from 1 to 100"):
        DegradationConfig(jpeg=(0, 95))
