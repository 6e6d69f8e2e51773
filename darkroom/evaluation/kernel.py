"""The kernel distance, KID (Binkowski et al. 2018): unbiased by the number of pictures, unlike the Fréchet distance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.metric import METRICS, Measured
from darkroom.evaluation.reservoir import Reservoir

__all__ = ["Kernel", "kernel_distance"]

KEPT, SUBSETS, SUBSET = 10_000, 100, 1000


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD of (n, D) and (m, D) under the kernel (x·y / D + 1)³."""
    n, m, width = len(x), len(y), x.shape[1]
    xx, yy, xy = ((a @ b.T / width + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


class Kernel:
    """The mean over 100 random subsets of at most 1000 pictures a side, with the 95 % interval of that mean."""

    def __init__(self, shard: int = 0) -> None:
        self.sample = Reservoir(KEPT, shard)

    def update(self, features: np.ndarray) -> None:
        self.sample.update(features)

    def merge(self, other: Kernel) -> None:
        self.sample.merge(other.sample)

    def result(self, reference: Kernel) -> Mapping[str, Measured]:
        x, y = self.sample.rows, reference.sample.rows
        if min(len(x), len(y)) < 2:
            raise InputError(f"a kernel distance needs at least 2 pictures a side, there are {len(x)} and {len(y)}")
        rng, size = np.random.default_rng(0), min(SUBSET, len(x), len(y))
        values = [
            kernel_distance(x[rng.choice(len(x), size, False)], y[rng.choice(len(y), size, False)])
            for _ in range(SUBSETS if size < max(len(x), len(y)) else 1)
        ]
        value = float(np.mean(values))
        if len(values) == 1:
            return {"kernel": Measured(value)}
        low, high = np.quantile(values, [0.025, 0.975])
        return {"kernel": Measured(value, (float(low), float(high)))}


METRICS.add("kernel", Kernel, "kid", "mmd")
