"""Elo points as in the papers on SDXL-Turbo (2311.17042) and Stable Video Diffusion (2311.15127).

K = 1, start 1000, E_1 = 1 / (1 + 10^((R_2 − R_1) / 400)); the mean over 1000 shuffles of the order of the votes. With
few votes the points stay near 1000, since each vote moves at most one point: they rank, and `strength` measures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from darkroom.evaluation.study.tally import Ballot

__all__ = ["elo"]


def elo(
    ballots: Sequence[Ballot], candidates: int, *, shuffles: int = 1000, k: float = 1.0, seed: int = 0
) -> np.ndarray:
    """The points (candidates,) of all shuffles' mean; a tie is half a victory."""
    rng = np.random.default_rng(seed)
    left, right = (np.array([getattr(b, side) for b in ballots], dtype=int) for side in ("left", "right"))
    score = np.array([0.5 if b.winner is None else float(b.winner == b.left) for b in ballots])
    order = rng.permuted(np.tile(np.arange(len(ballots)), (shuffles, 1)), axis=1)
    points, rows = np.full((shuffles, candidates), 1000.0), np.arange(shuffles)
    for vote in order.T:  # the same place in every shuffle at once
        a, b = left[vote], right[vote]
        expected = 1 / (1 + 10 ** ((points[rows, b] - points[rows, a]) / 400))
        change = k * (score[vote] - expected)
        points[rows, a] += change
        points[rows, b] -= change
    return points.mean(axis=0)
