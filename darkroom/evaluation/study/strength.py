"""Strengths of candidates from comparisons of two: the Bradley–Terry model with ties.

Davidson (1970): with strengths λ and the tie parameter θ, candidate i is preferred to j with probability

    P(i > j) = e^{d/2} / Z,   P(tie) = e^θ / Z,   P(j > i) = e^{−d/2} / Z,   d = λ_i − λ_j

The logarithm of the likelihood is concave, so Newton's method finds its one maximum, where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.share import Z
from darkroom.evaluation.study.tally import Tally

__all__ = ["Strengths", "strengths"]

ELO = 400 / np.log(10)  # points for a factor e in the odds


@dataclass(frozen=True)
class Strengths:
    """`values` (n,): λ with mean 0. `covariance` (n, n) of their estimates. `tie`: θ, None where no vote was a tie."""

    values: np.ndarray
    covariance: np.ndarray
    tie: float | None

    @property
    def points(self) -> np.ndarray:
        """On the scale of Elo, mean 1000: 400 more is ten to one."""
        return 1000 + ELO * self.values

    @property
    def errors(self) -> np.ndarray:
        """How far the 95 % interval of each of `points` reaches."""
        return Z * ELO * np.sqrt(self.covariance.diagonal())

    def gap(self, i: int, j: int) -> tuple[float, float]:
        """By how many points `i` is ahead of `j`, and how far the 95 % interval of that reaches."""
        variance = self.covariance[i, i] + self.covariance[j, j] - 2 * self.covariance[i, j]
        return float(ELO * (self.values[i] - self.values[j])), float(Z * ELO * max(variance, 0) ** 0.5)

    @property
    def ranks(self) -> list[int]:
        """1 + how many candidates are ahead beyond doubt: the interval of their gap is above 0."""
        n = len(self.values)
        return [1 + sum(g > e for j in range(n) if j != i for g, e in [self.gap(j, i)]) for i in range(n)]


def strengths(votes: Tally) -> Strengths:
    """The maximum of the likelihood. `InputError` where there is none, and why.

    The variance is that of the model or, where answers about one item agree with each other, the larger one that
    items as clusters give (Liang and Zeger 1986), scaled by G/(G − 1).
    """
    wins, ties = votes.wins.sum(axis=0), votes.ties.sum(axis=0)
    _check_finite(wins, ties)
    pairs, has_ties = votes.pairs, bool(ties.any())
    n, free = len(wins), len(wins) + has_ties
    parameters = np.zeros(free)
    for _ in range(100):
        gradient, information, _ = _derivatives(parameters, wins, ties, pairs, has_ties)
        step = np.linalg.pinv(information, hermitian=True) @ gradient
        scale, before = 1.0, _likelihood(parameters, wins, ties, pairs, has_ties)
        while _likelihood(parameters + scale * step, wins, ties, pairs, has_ties) < before and scale > 1e-6:
            scale /= 2
        parameters = parameters + scale * step
        if np.abs(scale * step).max() < 1e-11:
            break
    _, information, features = _derivatives(parameters, wins, ties, pairs, has_ties)
    inverse = np.linalg.pinv(information, hermitian=True)
    covariance = inverse
    if (clusters := len(votes.wins)) > 1:
        scores = np.stack([_score(w, t, pairs, features, free) for w, t in zip(votes.wins, votes.ties)])
        sandwich = inverse @ (scores.T @ scores) @ inverse * clusters / (clusters - 1)
        covariance = _larger(inverse[:n, :n], sandwich[:n, :n])
    values = parameters[:n] - parameters[:n].mean()
    return Strengths(values, covariance[:n, :n], float(parameters[n]) if has_ties else None)


def _check_finite(wins: np.ndarray, ties: np.ndarray) -> None:
    """A strength has no bound if it can go on growing without making any vote less likely.

    Ford (1957): unless votes and ties lead from every candidate to every other. With ties also if all strengths can
    spread with θ: by 2 for each victory (a victory stays the likeliest outcome) and by at most 2 for each tie.
    """
    if not wins.any():
        raise InputError("no vote prefers a picture: strengths say nothing")
    reaches = (wins + ties > 0) | np.eye(len(wins), dtype=bool)
    least = np.where(wins.T > 0, -2.0, np.where(ties > 0, 2.0, np.inf))  # of λ_row − λ_column
    for k in range(len(wins)):  # Warshall and Floyd
        reaches |= reaches[:, k : k + 1] & reaches[k]
        least = np.minimum(least, least[:, k : k + 1] + least[k])
    spreads = bool(ties.any()) and (least.diagonal() >= 0).all()
    if not reaches.all() or spreads:
        raise InputError(
            "some candidates won or lost every decision against the others: their strengths have no bound yet"
        )


def _chances(parameters: np.ndarray, i: int, j: int, has_ties: bool) -> np.ndarray:
    """P of (i, j, tie)."""
    half = (parameters[i] - parameters[j]) / 2
    logits = np.array([half, -half, parameters[-1] if has_ties else -np.inf])
    e = np.exp(logits - logits.max())
    return e / e.sum()


def _likelihood(
    p: np.ndarray, wins: np.ndarray, ties: np.ndarray, pairs: list[tuple[int, int]], has_ties: bool
) -> float:
    total = 0.0
    for i, j in pairs:
        chances, counts = _chances(p, i, j, has_ties), (wins[i, j], wins[j, i], ties[i, j])
        total += sum(c * np.log(q) for c, q in zip(counts, chances) if c)
    return total


def _features(i: int, j: int, free: int, n: int) -> np.ndarray:
    """(3, free): what each outcome of a pair weighs of each parameter."""
    f = np.zeros((3, free))
    f[0, [i, j]], f[1, [i, j]] = (0.5, -0.5), (-0.5, 0.5)
    f[2, n:] = 1
    return f


Centered = dict[tuple[int, int], np.ndarray]  # by pair: features (3, free) less their expectation


def _derivatives(
    p: np.ndarray, wins: np.ndarray, ties: np.ndarray, pairs: list[tuple[int, int]], has_ties: bool
) -> tuple[np.ndarray, np.ndarray, Centered]:
    free, n = len(p), len(wins)
    information, centered = np.zeros((free, free)), {}
    for i, j in pairs:
        chances, f = _chances(p, i, j, has_ties), _features(i, j, free, n)
        centered[i, j] = f - chances @ f
        count = wins[i, j] + wins[j, i] + ties[i, j]
        information += count * (centered[i, j].T * chances) @ centered[i, j]
    return _score(wins, ties, pairs, centered, free), information, centered


def _score(
    wins: np.ndarray, ties: np.ndarray, pairs: list[tuple[int, int]], centered: Centered, free: int
) -> np.ndarray:
    """The gradient of the logarithm of the likelihood of these votes."""
    total = np.zeros(free)
    for i, j in pairs:
        total += np.array([wins[i, j], wins[j, i], ties[i, j]]) @ centered[i, j]
    return total


def _larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A covariance that is in no direction smaller than `a` or `b`: a + the positive part of b − a."""
    values, vectors = np.linalg.eigh((b - a + (b - a).T) / 2)
    return a + (vectors * np.maximum(values, 0)) @ vectors.T
