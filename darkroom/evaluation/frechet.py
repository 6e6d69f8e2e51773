"""The Fréchet distance between two sets of features (Heusel et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.metric import METRICS, Measured
from darkroom.evaluation.moments import Moments

__all__ = ["Frechet", "frechet_distance"]

BLOCKS = 20  # of the jackknife


def frechet_distance(a: Moments, b: Moments) -> float:
    """‖μ₁−μ₂‖² + Tr(S₁ + S₂ − 2 (S₁S₂)^½) of the Gaussians fitted to two sets.

    The trace of the root is taken as Σ sqrt(eigenvalues of S₁^½ S₂ S₁^½), which is symmetric and so stays real. Biased
    by the number of rows: compare only distances of equal counts. Raises `InputError` for fewer than two rows.
    """
    for moments in (a, b):
        if moments.count < 2:
            raise InputError(f"a Fréchet distance needs at least 2 feature rows a side, there are {moments.count}")
    if len(a.mean) != len(b.mean):
        raise InputError(f"features of width {len(a.mean)} and {len(b.mean)} cannot be compared")
    mean, cov_a, cov_b = a.mean - b.mean, a.covariance, b.covariance
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.linalg.eigvalsh(root_a @ cov_b @ root_a)
    return float(mean @ mean + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(cross.clip(min=0)).sum())


class Frechet:
    """The distance with a jackknife interval: the set is dealt into 20 blocks, each of which is left out once.

    The interval says how far the number moves with the pictures that were drawn, not how far their count biases it.
    """

    def __init__(self, shard: int = 0) -> None:
        self.blocks = [Moments() for _ in range(BLOCKS)]
        self.seen = 0

    def update(self, features: np.ndarray) -> None:
        places = (self.seen + np.arange(len(features))) % BLOCKS
        for i, block in enumerate(self.blocks):
            if (mine := features[places == i]).size:
                block.update(mine)
        self.seen += len(features)

    def merge(self, other: Frechet) -> None:
        for mine, theirs in zip(self.blocks, other.blocks):
            mine.merge(theirs)
        self.seen += other.seen

    def _without(self, left_out: int | None) -> Moments:
        total = Moments()
        for i, block in enumerate(self.blocks):
            if i != left_out:
                total.merge(block)
        return total

    def result(self, reference: Frechet) -> Mapping[str, Measured]:
        theirs, width = reference._without(None), len(self._without(None).mean)
        value = frechet_distance(self._without(None), theirs)
        if self.seen < 2 * max(BLOCKS, width):  # the covariance of what is left would be of another rank
            return {"frechet": Measured(value)}
        left = np.array([frechet_distance(self._without(i), theirs) for i in range(BLOCKS)])
        reach = 1.96 * np.sqrt((BLOCKS - 1) / BLOCKS * np.square(left - left.mean()).sum())
        return {"frechet": Measured(value, (value - reach, value + reach))}


METRICS.add("frechet", Frechet, "fid", "fd")
