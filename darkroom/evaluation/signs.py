"""Which word a sign says: the picture compared with every word that the world writes, at the places where signs stand.

No network reads here. A word is read where the picture agrees with it more than with all others, and well enough.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import skia

from darkroom.data.picturebook.render import draw_sign
from darkroom.data.picturebook.scene import WORDS, Sign, sign_boxes

__all__ = ["read_sign"]

REACH = 0.04  # of the shorter side, by which signs may be off their places
ENOUGH = 0.6  # correlation of what is read with the word as it is drawn


def read_sign(pixels: np.ndarray) -> str | None:
    """The word on the sign in uint8 (H, W, 3); None where there is no sign or no word that can be read."""
    gray = pixels.astype(np.float32).mean(axis=2)
    height, width = gray.shape
    reach = max(1, round(REACH * min(height, width)))
    scores: dict[str, float] = {}
    for word, top, left, template in _templates(width, height):
        h, w = template.shape
        rows = slice(max(0, top - reach), min(height, top + h + reach))
        columns = slice(max(0, left - reach), min(width, left + w + reach))
        windows = np.lib.stride_tricks.sliding_window_view(gray[rows, columns], (h, w))
        around = windows - windows.mean(axis=(2, 3), keepdims=True)
        lengths = np.sqrt(np.square(around).sum(axis=(2, 3))).clip(min=1e-3)
        best = float(((around * template).sum(axis=(2, 3)) / lengths).max())
        scores[word] = max(best, scores.get(word, -1.0))
    word = max(scores, key=lambda w: scores[w])
    return word if scores[word] >= ENOUGH else None


@cache
def _templates(width: int, height: int) -> list[tuple[str, int, int, np.ndarray]]:
    """Of every word at every place: the word, top and left in pixels, and the board in gray, its mean 0, its length
    1."""
    found = []
    for word in WORDS:
        for box in sign_boxes(word, width / height):
            surface = skia.Surface(width, height)
            draw_sign(surface.getCanvas(), Sign(word, box), width, height)
            canvas = surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)
            top, bottom = round(box.top * height), round((box.top + 0.6 * (box.bottom - box.top)) * height)
            left, right = round(box.left * width), round(box.right * width)
            board = canvas[top + 1 : bottom - 1, left + 1 : right - 1, :3].astype(np.float32).mean(axis=2)
            board -= board.mean()
            found.append((word, top + 1, left + 1, board / np.sqrt(np.square(board).sum())))
    return found
