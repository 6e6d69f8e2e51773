"""Masks that are drawn on the fly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from darkroom.data.masks import MaskConfig, draw_mask
from darkroom.errors import InputError
from darkroom.types import Size

SIZE = Size(96, 128)


def shares(config: MaskConfig, count: int = 60) -> np.ndarray:
    masks = [draw_mask(SIZE, config, np.random.default_rng(i)) for i in range(count)]
    assert all(m.shape == (96, 128) and m.dtype == np.uint8 and set(np.unique(m)) <= {0, 1} for m in masks)
    return np.array([m.mean() for m in masks])


def test_masks_are_the_same_from_the_same_seed_and_others_from_another() -> None:
    a, b, c = (draw_mask(SIZE, MaskConfig(), np.random.default_rng(i)) for i in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_boxes_cover_what_their_sides_say() -> None:
    found = shares(MaskConfig("box", boxes=(1, 1), box_side=(0.5, 0.5)))
    assert found.max() == pytest.approx(48 * 48 / (96 * 128), rel=0.01)
    assert found.min() > 0.9 * found.max()  # corners are round


def test_strokes_are_as_wide_as_asked() -> None:
    thin, thick = (shares(MaskConfig("brush", stroke_width=(w, w))).mean() for w in (0.02, 0.3))
    assert 0 < thin < 0.15 < thick


def test_a_share_is_masked_whole() -> None:
    assert 0.1 < (shares(MaskConfig(full=0.25), 200) == 1).mean() < 0.45
    assert (shares(MaskConfig(full=1.0)) == 1).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strokes": (0, 2)}, r"strokes is \[0, 2\], expected is two rising numbers"),
        ({"box_side": (0.5, 0.1)}, r"box_side is \[0.5, 0.1\], expected is two rising shares"),
        ({"full": 2.0}, "full is 2.0, expected is a share from 0 to 1"),
    ],
)
def test_what_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MaskConfig(**fields)
