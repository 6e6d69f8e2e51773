"""Fidelity and variety by nearest neighbors: precision and recall (Kynkäänniemi et al. 2019), density and coverage
(Naeem et al. 2020).

Precision and density ask of the pictures whether they lie among the reference; recall and coverage ask of the reference
whether it lies among the pictures. The first argument of `result` is always the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.metric import METRICS, Measured, mean_of
from darkroom.evaluation.reservoir import Reservoir

__all__ = ["Neighbors", "distances", "neighbor_shares"]

MANIFOLD, BALL, KEPT = 3, 5, 10_000  # neighbors for precision and recall, for density and coverage, as in the papers
PIECE = 1000  # rows whose distances to all others are held at once


def neighbor_shares(
    pictures: np.ndarray, reference: np.ndarray, manifold: int = MANIFOLD, ball: int = BALL
) -> dict[str, np.ndarray]:
    """Per picture or reference row what is averaged: `precision`, `recall` (bool), `density`, `coverage`.

    A ball around a row reaches to its `manifold`-th neighbor in its own set for the first two, to its `ball`-th for the
    others.
    """
    reach_p = _reach(pictures, (manifold,))[0]
    reach_r, ball_r = _reach(reference, (manifold, ball))
    inside, density = np.zeros(len(pictures), bool), np.zeros(len(pictures))
    reached, closest = np.zeros(len(reference), bool), np.full(len(reference), np.inf)
    for start in range(0, len(pictures), PIECE):
        rows = slice(start, start + PIECE)
        d = distances(pictures[rows], reference)
        inside[rows] = (d <= reach_r).any(axis=1)
        density[rows] = (d <= ball_r).sum(axis=1) / ball
        reached |= (d <= reach_p[rows, None]).any(axis=0)
        closest = np.minimum(closest, d.min(axis=0))
    return {"precision": inside, "recall": reached, "density": density, "coverage": closest <= ball_r}


def _reach(rows: np.ndarray, nearest: tuple[int, ...]) -> list[np.ndarray]:
    """The distances of each row to its so many-th neighbors among the others."""
    parts = [distances(rows[i : i + PIECE], rows) for i in range(0, len(rows), PIECE)]
    return [np.concatenate([np.partition(d, n, axis=1)[:, n] for d in parts]) for n in nearest]  # itself is the 0-th


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean, of each row of (n, D) to each of (m, D): (n, m)."""
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * a @ b.T
    return np.sqrt(squared.clip(min=0))


class Neighbors:
    """The four numbers, each with its 95 % interval."""

    reads: ClassVar[Literal["features", "classes"]] = "features"

    def __init__(self, shard: int = 0) -> None:
        self.sample = Reservoir(KEPT, shard)

    def update(self, features: np.ndarray) -> None:
        self.sample.update(features)

    def merge(self, other: Neighbors) -> None:
        self.sample.merge(other.sample)

    def result(self, reference: Neighbors) -> Mapping[str, Measured]:
        pictures, theirs = self.sample.rows, reference.sample.rows
        if min(len(pictures), len(theirs)) <= BALL:
            raise InputError(
                f"{BALL} nearest neighbors need more than {BALL} pictures a side, there are {len(pictures)} and "
                f"{len(theirs)}"
            )
        return {name: mean_of(values) for name, values in neighbor_shares(pictures, theirs).items()}


METRICS.add("neighbors", Neighbors, "prdc", "precision", "recall", "density", "coverage")
