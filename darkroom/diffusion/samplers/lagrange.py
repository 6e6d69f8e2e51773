"""Weights of multistep methods: integrals of the polynomials through known points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["lagrange_weights"]

POINTS, GAUSS = np.polynomial.legendre.leggauss(32)  # on −1 … 1; exact up to degree 63


def lagrange_weights(nodes: Sequence[float], start: float, end: float, rate: float = 0.0) -> list[float]:
    """For each of the distinct `nodes`: ∫ exp(rate (u − end)) L(u) du from `start` to `end`.

    L is the polynomial that is 1 at the node and 0 at the others.
    """
    u = (start + end) / 2 + (end - start) / 2 * POINTS
    measure = (end - start) / 2 * GAUSS * np.exp(rate * (u - end))
    weights = []
    for node in nodes:
        basis = np.ones_like(u)
        for other in nodes:
            if other != node:
                basis = basis * (u - other) / (node - other)
        weights.append(float(measure @ basis))
    return weights
