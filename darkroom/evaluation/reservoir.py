"""A fair sample of a stream of vectors, bounded and the same whatever the batches (Vitter 1985, algorithm R)."""

from __future__ import annotations

import numpy as np

from darkroom.errors import InputError

__all__ = ["Reservoir"]


class Reservoir:
    """At most `size` rows of those seen; each has the same chance. Row n is kept or not by a draw of (seed, n)."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size, self.seed, self.seen = size, seed, 0
        self._rows: dict[float, np.ndarray] = {}  # by the row's draw: the smallest stay

    def update(self, rows: np.ndarray) -> None:
        """Take in (B, D)."""
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise InputError(f"features of shape {list(rows.shape)} are not finite rows (B, D)")
        for row in rows:
            self._rows[float(np.random.default_rng((self.seed, self.seen)).random())] = row.astype(np.float32)
            self.seen += 1
        self._trim()

    def merge(self, other: Reservoir) -> None:
        """Take in another stream's sample, which must have been drawn with another seed."""
        self._rows.update(other._rows)
        self.seen += other.seen
        self._trim()

    def _trim(self) -> None:
        if len(self._rows) > self.size:
            for draw in sorted(self._rows)[self.size :]:
                del self._rows[draw]

    @property
    def rows(self) -> np.ndarray:
        """(n, D) float64, in an order that does not depend on the batches."""
        if not self._rows:
            raise InputError("there are no pictures to measure")
        return np.stack([self._rows[draw] for draw in sorted(self._rows)]).astype(np.float64)
