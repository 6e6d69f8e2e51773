"""The Fréchet distance between two sets of features (Heusel et al. 2017)."""

from __future__ import annotations

import numpy as np

from darkroom.errors import InputError

__all__ = ["frechet_distance"]


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """‖μ₁−μ₂‖² + Tr(S₁ + S₂ − 2 (S₁S₂)^½) of the Gaussians fitted to the rows of `a` (N, D) and `b` (M, D).

    The trace of the root is taken as Σ sqrt(eigenvalues of S₁^½ S₂ S₁^½), which is symmetric and so stays real. Biased
    by the number of rows: compare only distances of equal N and M. Raises `InputError` for fewer than two rows.
    """
    for features in (a, b):
        if features.ndim != 2 or len(features) < 2:
            raise InputError(f"a Fréchet distance needs at least two feature rows on each side, not {features.shape}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean = a.mean(axis=0) - b.mean(axis=0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(np.atleast_2d(cov_a))
    root_a = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.linalg.eigvalsh(root_a @ np.atleast_2d(cov_b) @ root_a)
    trace = np.trace(np.atleast_2d(cov_a)) + np.trace(np.atleast_2d(cov_b)) - 2 * np.sqrt(cross.clip(min=0)).sum()
    return float(mean @ mean + trace)
