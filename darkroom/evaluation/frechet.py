"""The Fréchet distance between two sets of features (Heusel et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.metric import METRICS, Measured, jackknife_reach
from darkroom.evaluation.moments import Moments

__all__ = ["Frechet", "Gaussian", "frechet_distance"]

BLOCKS = 20  # of the jackknife


class Gaussian(Protocol):
    """What a set of features is taken for."""

    @property
    def mean(self) -> np.ndarray: ...

    @property
    def covariance(self) -> np.ndarray: ...


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """‖μ₁−μ₂‖² + Tr(S₁ + S₂ − 2 (S₁S₂)^½) of the Gaussians fitted to two sets.

    The trace of the root is taken as Σ sqrt(eigenvalues of S₁^½ S₂ S₁^½), which is symmetric and so stays real. Biased
    by the number of rows: compare only distances of equal counts. Raises `InputError` for fewer than two rows.
    """
    return _distances(a, [b])[0]


def _distances(a: Gaussian, others: Sequence[Gaussian]) -> list[float]:
    """From `a` to each of the others."""
    mean, covariance = a.mean, a.covariance
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    found = []
    for b in others:
        if len(mean) != len(b.mean):
            raise InputError(f"features of width {len(mean)} and {len(b.mean)} cannot be compared")
        apart, other = mean - b.mean, b.covariance
        cross = np.linalg.eigvalsh(root @ other @ root)
        trace = np.trace(covariance) + np.trace(other) - 2 * np.sqrt(cross.clip(min=0)).sum()
        found.append(float(apart @ apart + trace))
    return found


class Frechet:
    """The distance with a jackknife interval: each set is dealt into 20 blocks, each of which is left out once.

    The interval says how far the number moves with the pictures that were drawn, not how far their count biases it.
    """

    reads: ClassVar[Literal["features", "classes"]] = "features"

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

    @property
    def moments(self) -> Moments:
        """Of all that was seen."""
        return self._without(None)

    def _without(self, left_out: int | None) -> Moments:
        total = Moments()
        for i, block in enumerate(self.blocks):
            if i != left_out:
                total.merge(block)
        return total

    def _leave_outs(self) -> list[Moments]:
        return [self._without(i) for i in range(BLOCKS)]

    def _is_steady(self) -> bool:
        """Whether the covariance of what a leave-out keeps has the rank of the whole."""
        return self.seen >= 2 * max(BLOCKS, len(self.moments.mean))

    def result(self, reference: Frechet) -> Mapping[str, Measured]:
        theirs = reference.moments
        ours = [self.moments]
        if not (self._is_steady() and reference._is_steady()):
            least = 2 * max(BLOCKS, len(theirs.mean))
            note = f"no interval below {least} pictures a side; biased upwards by so few"
            return {"frechet": Measured(frechet_distance(ours[0], theirs), note=note)}
        value, *left = _distances(theirs, ours + self._leave_outs())
        theirs_left = _distances(ours[0], reference._leave_outs())
        reach = jackknife_reach(np.array(left), np.array(theirs_left))
        return {"frechet": Measured(value, (value - reach, value + reach))}

    def against(self, known: Gaussian) -> Measured:
        """The distance to statistics whose pictures are not at hand; the interval is of this set's draw alone."""
        if not self._is_steady():
            least = 2 * max(BLOCKS, len(known.mean))
            return Measured(frechet_distance(self.moments, known), note=f"no interval below {least} pictures")
        value, *left = _distances(known, [self.moments, *self._leave_outs()])
        reach = jackknife_reach(np.array(left))
        return Measured(value, (value - reach, value + reach))


METRICS.add("frechet", Frechet, "fid", "fd", "fd-dinov2")
