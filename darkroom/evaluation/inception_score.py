"""The Inception score (Salimans et al. 2016): classes that are sure picture by picture and varied over the set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.metric import METRICS, Measured

__all__ = ["InceptionScore"]

SPLITS = 10
STEADY = 5000  # pictures, below which so few in a split show too few classes


class InceptionScore:
    """exp of the mean of KL(p(y|x) ‖ p(y)), mean over 10 splits: rows 0, 10, 20 … are the first. Looks at no
    reference, whose own score is given beside it. The interval is that of the mean over splits."""

    reads: ClassVar[Literal["features", "classes"]] = "classes"

    def __init__(self, shard: int = 0) -> None:
        self.seen = 0
        self.counts = np.zeros(SPLITS, int)
        self.sums = np.zeros((SPLITS, 0))  # of probabilities, by class
        self.entropies = np.zeros(SPLITS)  # Σ p log p

    def update(self, features: np.ndarray) -> None:
        rows = features.astype(np.float64)
        if not np.isfinite(rows).all() or (rows < 0).any() or np.abs(rows.sum(axis=1) - 1).max(initial=0) > 1e-3:
            raise InputError(f"rows of shape {list(rows.shape)} are no probabilities")
        if not self.seen:
            self.sums = np.zeros((SPLITS, rows.shape[1]))
        places = (self.seen + np.arange(len(rows))) % SPLITS
        np.add.at(self.counts, places, 1)
        np.add.at(self.sums, places, rows)
        np.add.at(self.entropies, places, _plogp(rows).sum(axis=1))
        self.seen += len(rows)

    def merge(self, other: InceptionScore) -> None:
        if other.seen:
            self.sums = self.sums + other.sums if self.seen else other.sums.copy()
            self.counts, self.entropies = self.counts + other.counts, self.entropies + other.entropies
            self.seen += other.seen

    @property
    def score(self) -> Measured:
        """Of this set alone; `InputError` for fewer pictures than splits."""
        if self.seen < SPLITS:
            raise InputError(f"an Inception score over {SPLITS} splits needs {SPLITS} pictures, there are {self.seen}")
        marginal = _plogp(self.sums / self.counts[:, None]).sum(axis=1)
        scores = np.exp(self.entropies / self.counts - marginal)
        value, reach = float(scores.mean()), 1.96 * float(scores.std(ddof=1)) / SPLITS**0.5
        note = f"low for so few pictures; steady from {STEADY}" if self.seen < STEADY else ""
        return Measured(value, (value - reach, value + reach), note)

    def result(self, reference: InceptionScore) -> Mapping[str, Measured]:
        return {"score": self.score, "score of the reference": reference.score}


def _plogp(p: np.ndarray) -> np.ndarray:
    return p * np.log(p.clip(min=1e-16))


METRICS.add("score", InceptionScore, "is", "inception-score")
