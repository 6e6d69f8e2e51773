"""All pairs of two sets of features, walked once for everything that metrics ask of them.

Kernel distances, precision and its kin, and copies are functions of the same products of features. Where the same sets
are measured many times over it pays to take the products once, in float32, and to keep what a set says of itself: the
numbers are those of the metrics one by one (`kernel`, `neighbors`, `copies`) but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from darkroom.evaluation.copies import Nearest, copied_share
from darkroom.evaluation.kernel import SCALE, SIGMA, block_edges, distance_from_sums
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.neighbors import BALL, MANIFOLD

__all__ = ["Within", "pair_numbers", "within"]

HELD = 1_000_000  # products that are held at once: they stay in the processor's cache


@dataclass(frozen=True)
class Within:
    """A set (N, D), and what its pairs say: sums of both kernels by block, and of each row the distances to itself and
    to its nearest neighbors, in rising order."""

    rows: Tensor  # (N, D) in float32
    cubic: np.ndarray  # (blocks, blocks), without each row with itself
    gaussian: np.ndarray
    nearest: Tensor  # (N, 1 + BALL)


def within(rows: np.ndarray) -> Within:
    """For features (N, D)."""
    x = torch.from_numpy(rows.astype(np.float32))
    sums, nearest = _Sums(x, x), torch.empty(len(x), 1 + BALL)
    for block, part, products in _products(x, x):
        sums.add(block, part, products, with_itself=False)
        nearest[part] = sums.squared(part, products).topk(1 + BALL, dim=1, largest=False).values
    return Within(x, *sums.by_block(), nearest.clamp(min=0).sqrt())


def pair_numbers(pictures: Within, reference: Within) -> Mapping[str, Measured]:
    """kernel, gaussian, precision, recall, density, coverage and copies of `pictures` against `reference`."""
    x, y = pictures.rows, reference.rows
    sums = _Sums(x, y)
    reach_x, reach_y, ball_y = pictures.nearest[:, MANIFOLD], reference.nearest[:, MANIFOLD], reference.nearest[:, BALL]
    inside, density, closest = torch.empty(len(x), dtype=torch.bool), torch.empty(len(x)), torch.empty(len(x))
    reached, from_y = torch.full((len(y),), torch.inf), torch.full((len(y),), torch.inf)
    for block, part, products in _products(x, y):
        sums.add(block, part, products)
        d = sums.squared(part, products).clamp_(min=0).sqrt_()
        closest[part] = d.amin(dim=1)
        torch.minimum(from_y, d.amin(dim=0), out=from_y)
        inside[part] = (d - reach_y).amin(dim=1) <= 0
        torch.minimum(reached, (d - reach_x[part, None]).amin(dim=0), out=reached)
        density[part] = (d <= ball_y).sum(dim=1, dtype=torch.int32) / BALL
    cubic, gaussian = sums.by_block()
    return {
        "kernel": distance_from_sums(pictures.cubic, reference.cubic, cubic, len(x), len(y)),
        "gaussian": distance_from_sums(pictures.gaussian, reference.gaussian, gaussian, len(x), len(y)),
        "precision": mean_of(inside.numpy()),
        "recall": mean_of((reached <= 0).numpy()),
        "density": mean_of(density.double().numpy()),
        "coverage": mean_of((from_y <= ball_y).numpy()),
        "copies": copied_share(_nearest(closest), _nearest(reference.nearest[:, 1])),
    }


def _nearest(distances: Tensor) -> Nearest:
    """Which neighbor it is, is not asked."""
    return Nearest(distances.numpy(), np.zeros(len(distances), int))


def _products(x: Tensor, y: Tensor) -> Iterator[tuple[int, slice, Tensor]]:
    """Of each row of x (N, D) with each of y (M, D), some rows at a time: the block and the rows, (n, M)."""
    size = max(1, HELD // len(y))
    for block, (start, stop) in enumerate(pairwise(block_edges(len(x)))):
        for first in range(start, stop, size):
            part = slice(first, min(first + size, stop))
            yield block, part, x[part] @ y.T


class _Sums:
    """Of both kernels over the pairs of x (N, D) and y (M, D), by block of either: (blocks, blocks)."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.width, self.columns = x.shape[1], block_edges(len(y))[:-1]
        self.norms_x, self.norms_y = x.square().sum(dim=1), y.square().sum(dim=1)
        blocks = len(block_edges(len(x))) - 1
        self.cubic, self.gaussian = (torch.zeros(blocks, len(y), dtype=torch.float64) for _ in range(2))

    def squared(self, part: slice, products: Tensor) -> Tensor:
        """Distances (n, M), squared, which rounding may bring below zero."""
        return (self.norms_x[part, None] + self.norms_y).sub_(products, alpha=2)

    def add(self, block: int, part: slice, products: Tensor, *, with_itself: bool = True) -> None:
        """Take in the products (n, M) of the rows `part`, all of one block."""
        base = products.div(self.width).add_(1)
        cubic = (base * base).mul_(base)
        # Less one, which is the same in all means and cancels: the rest is small and keeps its digits.
        directions = (self.norms_x[part, None].rsqrt() * products).mul_(self.norms_y.rsqrt())
        gaussian = directions.sub_(1).div_(SIGMA**2).expm1_()
        if not with_itself:
            for kernel in (cubic, gaussian):
                kernel[:, part].fill_diagonal_(0)
        self.cubic[block] += cubic.sum(dim=0)
        self.gaussian[block] += gaussian.sum(dim=0)

    def by_block(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the cubic kernel and of the Gaussian one."""
        cubic, gaussian = (np.add.reduceat(s.numpy(), self.columns, axis=1) for s in (self.cubic, self.gaussian))
        return cubic, SCALE * gaussian
