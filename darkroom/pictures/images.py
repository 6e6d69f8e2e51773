"""Contact sheets."""

from __future__ import annotations

import numpy as np

__all__ = ["grid"]


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 (B, H, W, 3) side by side, `columns` a row; places left over stay white."""
    rows = -(-len(images) // columns)
    _, height, width, channels = images.shape
    sheet = np.full((rows * height, columns * width, channels), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = image
    return sheet
