"""Mean and covariance of a stream of vectors, exact however it is cut (Chan et al. 1979)."""

from __future__ import annotations

import numpy as np

from darkroom.errors import InputError

__all__ = ["Moments"]


class Moments:
    """Of vectors of width D: `count`, `mean` (D,) and the sum of outer products around it, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(0)
        self.scatter = np.zeros((0, 0))

    def update(self, rows: np.ndarray) -> None:
        """Take in (B, D); `InputError` for numbers that are not finite or of another width than before."""
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise InputError(f"features of shape {list(rows.shape)} are not finite rows (B, D)")
        other = Moments()
        rows = rows.astype(np.float64)
        other.count, other.mean = len(rows), rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        around = rows - other.mean
        other.scatter = around.T @ around
        self.merge(other)

    def merge(self, other: Moments) -> None:
        if not other.count:
            return
        if not self.count:
            self.count, self.mean, self.scatter = other.count, other.mean.copy(), other.scatter.copy()
            return
        if len(self.mean) != len(other.mean):
            raise InputError(f"features of width {len(other.mean)} do not go with those of width {len(self.mean)}")
        total, apart = self.count + other.count, other.mean - self.mean
        self.scatter += other.scatter + np.outer(apart, apart) * (self.count * other.count / total)
        self.mean += apart * (other.count / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """(D, D), divided by count − 1."""
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 pictures, there are {self.count}")
        return self.scatter / (self.count - 1)
