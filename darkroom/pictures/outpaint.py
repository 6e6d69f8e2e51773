"""Outpainting: a larger canvas around a picture, whose new part is to be repainted."""

from __future__ import annotations

import numpy as np

from darkroom.errors import InputError
from darkroom.pictures.reading import MAX_PIXELS

__all__ = ["extended"]


def extended(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray]:
    """(Canvas uint8 (H', W', 3), mask uint8 (H', W'), 1 on what is new) for `image` uint8 (H, W, 3).

    The new part is filled with the picture's border, so that a run that starts from it finds fitting colors there.
    `InputError` for sides below 0, for none at all, and for a canvas larger than pictures may be.
    """
    sides = (left, top, right, bottom)
    if min(sides) < 0 or not any(sides):
        raise InputError(f"outpainting by {sides} pixels: expected are left, top, right, bottom from 0 on, one above 0")
    height, width = image.shape[0] + top + bottom, image.shape[1] + left + right
    if height * width > MAX_PIXELS:
        raise InputError(
            f"outpainting by {sides} pixels makes {width}x{height}, expected are at most {MAX_PIXELS} pixels"
        )
    around = ((top, bottom), (left, right))
    canvas = np.pad(image, (*around, (0, 0)), mode="edge")
    mask = np.pad(np.zeros(image.shape[:2], np.uint8), around, constant_values=1)
    return canvas, mask
