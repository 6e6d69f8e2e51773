"""Kernel distances: KID (Binkowski et al. 2018) and CMMD (Jayasumana et al. 2024). Unbiased by the number of pictures,
unlike the Fréchet distance, so that equal sets give values around zero, negative ones too.

Published KIDs are means over random subsets of 1000; the sum over all pairs has the same expectation and less noise.
CMMD's released code keeps each picture's distance to itself in the sum, which adds about (1 − mean kernel) / n · 1000.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.metric import METRICS, Measured, jackknife_reach
from darkroom.evaluation.reservoir import Reservoir

__all__ = [
    "GaussianKernel",
    "Kernel",
    "KernelDistance",
    "block_edges",
    "difference",
    "distance_from_sums",
    "gaussian_distance",
    "kernel_distance",
]

KEPT, BLOCKS = 10_000, 20
LEAST = 5 * BLOCKS  # pictures a side for a jackknife over blocks
SIGMA, SCALE = 10.0, 1000.0  # of CMMD

KernelFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (n, D), (m, D) -> (n, m)


@dataclass(frozen=True, eq=False)
class KernelDistance(Measured):
    """A distance with its jackknife: the values with one block of the one set left out after the other, and of the
    other set; empty where there are too few pictures for an interval."""

    left_out: tuple[np.ndarray, ...] = ()


def difference(a: Measured, b: Measured) -> Measured:
    """a − b with its interval. Of two kernel distances by the jackknife of the difference itself: what both share,
    one reference or seeds in one order, is no uncertainty of it, and the interval is much narrower for it. Otherwise
    the ends of both intervals, which is wide but sound."""
    value = a.value - b.value
    if isinstance(a, KernelDistance) and isinstance(b, KernelDistance) and a.left_out and b.left_out:
        return _jackknifed(value, tuple(x - y for x, y in zip(a.left_out, b.left_out, strict=True)))
    if a.interval is None or b.interval is None:
        return Measured(value, note=a.note or b.note)
    return Measured(value, (a.interval[0] - b.interval[1], a.interval[1] - b.interval[0]))


def _jackknifed(value: float, left_out: tuple[np.ndarray, ...]) -> KernelDistance:
    reach = jackknife_reach(*left_out)
    return KernelDistance(value, (value - reach, value + reach), left_out=left_out)


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _gaussian(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of directions: rows are brought to unit length."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True).clip(min=1e-12) for x in (a, b))
    return SCALE * np.exp((a @ b.T - 1) / SIGMA**2)  # ‖a − b‖² = 2 − 2 a·b


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD of (n, D) and (m, D) under the kernel (x·y / D + 1)³."""
    return _distance(x, y, _cubic).value


def gaussian_distance(x: np.ndarray, y: np.ndarray) -> float:
    """1000 times the unbiased squared MMD of the directions of (n, D) and (m, D) under exp(−‖x − y‖² / 200)."""
    return _distance(x, y, _gaussian).value


def _distance(x: np.ndarray, y: np.ndarray, kernel: KernelFunction) -> KernelDistance:
    if min(len(x), len(y)) < 2:
        raise InputError(f"a kernel distance needs at least 2 pictures a side, there are {len(x)} and {len(y)}")
    xx, yy = (_block_sums(side, side, kernel, with_itself=False) for side in (x, y))
    return distance_from_sums(xx, yy, _block_sums(x, y, kernel), len(x), len(y))


def distance_from_sums(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, n: int, m: int) -> KernelDistance:
    """The distance of sets of `n` and `m` pictures, from sums of the kernel over pairs by block (`block_edges`): within
    each set, without each row with itself, and between them."""
    value = _from_sums(xx, yy, xy, n, m)
    if min(n, m) < LEAST:
        return KernelDistance(value, note=f"no interval below {LEAST} pictures a side")
    keep = [np.arange(BLOCKS) != i for i in range(BLOCKS)]
    sizes_x, sizes_y = (np.diff(block_edges(count)) for count in (n, m))
    without_x = [_from_sums(xx[k][:, k], yy, xy[k], n - size, m) for k, size in zip(keep, sizes_x)]
    without_y = [_from_sums(xx, yy[k][:, k], xy[:, k], n, m - size) for k, size in zip(keep, sizes_y)]
    return _jackknifed(value, (np.array(without_x), np.array(without_y)))


def block_edges(n: int) -> np.ndarray:
    """Where the blocks of n rows begin and the last one ends."""
    return np.linspace(0, n, min(BLOCKS, n) + 1).astype(int)


def _block_sums(a: np.ndarray, b: np.ndarray, kernel: KernelFunction, *, with_itself: bool = True) -> np.ndarray:
    """(blocks of a, blocks of b): sums of the kernel over all pairs; of one set also without each row with itself."""
    edges, columns = block_edges(len(a)), block_edges(len(b))[:-1]
    sums = []
    for start, stop in pairwise(edges):
        found = kernel(a[start:stop], b)
        if not with_itself:
            np.fill_diagonal(found[:, start:stop], 0)
        sums.append(np.add.reduceat(found.sum(axis=0), columns))
    return np.array(sums)


def _from_sums(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, n: int, m: int) -> float:
    return float(xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.sum() / (n * m))


class Kernel:
    """KID, over at most 10,000 pictures a side, with a jackknife interval over 20 blocks of either side."""

    reads: ClassVar[Literal["features", "classes"]] = "features"
    name: ClassVar[str] = "kernel"
    kernel: ClassVar[KernelFunction] = staticmethod(_cubic)

    def __init__(self, shard: int = 0) -> None:
        self.sample = Reservoir(KEPT, shard)

    def update(self, features: np.ndarray) -> None:
        self.sample.update(features)

    def merge(self, other: Kernel) -> None:
        self.sample.merge(other.sample)

    def result(self, reference: Kernel) -> Mapping[str, Measured]:
        return {self.name: _distance(self.sample.rows, reference.sample.rows, type(self).kernel)}


class GaussianKernel(Kernel):
    """CMMD: the same under a Gaussian kernel on the directions of the features."""

    name = "gaussian"
    kernel = staticmethod(_gaussian)


METRICS.add("kernel", Kernel, "kid")
METRICS.add("gaussian", GaussianKernel, "cmmd", "mmd")
