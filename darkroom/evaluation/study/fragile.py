"""How many votes decide: the fewest that, taken away, put another candidate first (after Huang et al. 2025)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from darkroom.errors import InputError
from darkroom.evaluation.study.strength import strengths
from darkroom.evaluation.study.tally import Tally

__all__ = ["Fragility", "fragility"]


@dataclass(frozen=True)
class Fragility:
    """The candidate that is first, the one that `dropped` votes fewer would put there instead, of `votes` in all."""

    first: int
    second: int
    dropped: int
    votes: int


def fragility(votes: Tally) -> Fragility:
    """Found by taking away, again and again, the vote that brings the order nearest to turning.

    For two candidates this is the least number; for more it is an upper bound of it that was right in every small case
    counted out. `InputError` as in `strengths`.
    """
    values = strengths(votes).values
    first = int(values.argmax())
    others = [j for j in range(len(values)) if j != first]
    found = [(_to_turn(votes, first, j), j) for j in others]
    dropped, second = min(found)
    return Fragility(first, second, dropped, votes.votes)


def _to_turn(votes: Tally, first: int, other: int) -> int:
    """How many votes fewer put `other` ahead of `first`."""
    wins, ties = votes.wins.sum(axis=0), votes.ties.sum(axis=0)
    for dropped in range(1, votes.votes + 1):
        best, best_gap = None, np.inf
        for w, t in _one_fewer(wins, ties):
            gap = _gap(w, t, first, other)
            if gap < best_gap - 1e-9:
                best, best_gap = (w, t), gap
        if best is None or best_gap < -1e-9:
            return dropped
        wins, ties = best
    return votes.votes


def _one_fewer(wins: np.ndarray, ties: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The counts without one vote, for each sort of vote that there is."""
    fewer = []
    for i, j in zip(*np.nonzero(wins)):
        w = wins.copy()
        w[i, j] -= 1
        fewer.append((w, ties))
    for i, j in zip(*np.nonzero(np.triu(ties))):
        t = ties.copy()
        t[[i, j], [j, i]] -= 1
        fewer.append((wins, t))
    return fewer


def _gap(wins: np.ndarray, ties: np.ndarray, first: int, other: int) -> float:
    """How far `first` is ahead; without end where no strengths can be told, unless the winner of all is plain."""
    try:
        values = strengths(Tally(wins[None], ties[None])).values
    except InputError:
        lead = wins[first].sum() - wins[:, first].sum() - (wins[other].sum() - wins[:, other].sum())
        return float(np.sign(lead)) * 1e6 + float(lead)
    return float(values[first] - values[other])
