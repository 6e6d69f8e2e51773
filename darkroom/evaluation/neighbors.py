"""Fidelity and variety by nearest neighbors: precision and recall (Kynkäänniemi et al. 2019), density and coverage
(Naeem et al. 2020).

Precision and density ask of the pictures whether they lie among the reference; recall and coverage ask of the reference
whether it lies among the pictures. The first argument of `result` is always the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.metric import METRICS, Measured
from darkroom.evaluation.reservoir import Reservoir

__all__ = ["Neighbors", "neighbor_shares"]

NEAREST, KEPT = 5, 10_000
PIECE = 1000  # rows whose distances to all others are held at once


def neighbor_shares(pictures: np.ndarray, reference: np.ndarray, nearest: int = NEAREST) -> dict[str, np.ndarray]:
    """Per picture or reference row what is averaged: `precision`, `recall` (bool), `density`, `coverage`.

    A ball around a row reaches to its `nearest`-th neighbor in its own set.
    """
    reach_p, reach_r = _reach(pictures, nearest), _reach(reference, nearest)
    inside_r, inside_p = np.zeros(len(pictures)), np.zeros(len(reference), bool)
    closest = np.full(len(reference), np.inf)
    for start in range(0, len(pictures), PIECE):
        rows = slice(start, start + PIECE)
        d = _distances(pictures[rows], reference)
        inside_r[rows] = (d <= reach_r).sum(axis=1)
        inside_p |= (d <= reach_p[rows, None]).any(axis=0)
        closest = np.minimum(closest, d.min(axis=0))
    return {
        "precision": inside_r > 0,
        "recall": inside_p,
        "density": inside_r / nearest,
        "coverage": closest <= reach_r,
    }


def _reach(rows: np.ndarray, nearest: int) -> np.ndarray:
    """The distance of each row to its `nearest`-th neighbor among the others."""
    parts = [_distances(rows[i : i + PIECE], rows) for i in range(0, len(rows), PIECE)]
    return np.concatenate([np.partition(d, nearest, axis=1)[:, nearest] for d in parts])  # itself is the 0-th


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.sqrt(squared.clip(min=0))


class Neighbors:
    """The four shares, each with the 95 % interval of a mean."""

    def __init__(self, shard: int = 0) -> None:
        self.sample = Reservoir(KEPT, shard)

    def update(self, features: np.ndarray) -> None:
        self.sample.update(features)

    def merge(self, other: Neighbors) -> None:
        self.sample.merge(other.sample)

    def result(self, reference: Neighbors) -> Mapping[str, Measured]:
        pictures, theirs = self.sample.rows, reference.sample.rows
        if min(len(pictures), len(theirs)) <= NEAREST:
            raise InputError(
                f"{NEAREST} nearest neighbors need more than {NEAREST} pictures a side, there are {len(pictures)} and "
                f"{len(theirs)}"
            )
        return {name: _mean(values) for name, values in neighbor_shares(pictures, theirs).items()}


def _mean(values: np.ndarray) -> Measured:
    mean, reach = float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return Measured(mean, (mean - reach, mean + reach))


METRICS.add("neighbors", Neighbors, "prdc", "precision", "recall", "density", "coverage")
