"""Are pictures copies of the training set? By the nearest training picture of each, against what is usual there.

No statistic of this sort proves much (Stein et al. 2023): it finds pictures to look at, and says whether there are more
of them than chance gives. So the nearest pairs are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.neighbors import distances
from darkroom.evaluation.picture_set import PictureSet
from darkroom.pictures.labels import labeled_sheet

__all__ = ["USUAL", "Nearest", "copied_share", "nearest", "nearest_sheet"]

USUAL = 0.05  # of pictures that nobody copied lie as near as what is counted
PIECE = 1000
SHOWN = 12


@dataclass(frozen=True)
class Nearest:
    """Of each picture the distance to its nearest training picture, and that one's number."""

    distance: np.ndarray  # (N,)
    index: np.ndarray  # (N,)


def nearest(rows: np.ndarray, training: Iterable[np.ndarray], *, itself: bool = False) -> Nearest:
    """For features `rows` (N, D) among those of the training set, which come in pieces. `itself`: row n is the training
    set's row n and not its own neighbor."""
    rows = rows.astype(np.float64)
    best, index, start = np.full(len(rows), np.inf), np.zeros(len(rows), int), 0
    for piece in training:
        piece = piece.astype(np.float64)
        for first in range(0, len(rows), PIECE):
            part = slice(first, first + PIECE)
            d = distances(rows[part], piece)
            if itself:
                numbers = np.arange(len(rows))[part][:, None]
                d = np.where(numbers == start + np.arange(len(piece)), np.inf, d)
            place = d.argmin(axis=1)
            found = d[np.arange(len(d)), place]
            closer = found < best[part]
            best[part] = np.where(closer, found, best[part])
            index[part] = np.where(closer, start + place, index[part])
        start += len(piece)
    if start < 2:
        raise InputError(f"copies are looked for among at least 2 training pictures, there are {start}")
    return Nearest(best, index)


def copied_share(pictures: Nearest, usual: Nearest) -> Measured:
    """The share of pictures that lie nearer to the training set than 95 % of pictures do that are no copies.

    `usual`: of held-out pictures, or of the training set's own, each among the others. 5 % where nothing is copied.
    """
    if len(usual.distance) < 20:
        raise InputError(f"what is usual is told by at least 20 pictures, there are {len(usual.distance)}")
    return mean_of(pictures.distance < np.quantile(usual.distance, USUAL))


def nearest_sheet(pictures: PictureSet, training: PictureSet, found: Nearest) -> np.ndarray:
    """uint8 (H, W, 3): the 12 pictures that lie nearest to the training set, each beside its neighbor there."""
    order = np.argsort(found.distance, kind="stable")[:SHOWN]
    shown = [p for i in order for p in (pictures.pixels(int(i)), training.pixels(int(found.index[i])))]
    return labeled_sheet(shown, ["picture", "nearest"], [f"{found.distance[i]:.3g}" for i in order], [""])
