"""Votes as counts: who was preferred to whom how often, by item, so that what belongs together stays together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Ballot", "Tally", "tally"]


@dataclass(frozen=True)
class Ballot:
    """One answer about two candidates, by their numbers: `winner` is one of them, or None for a tie.

    `item`: what was drawn. Answers about one item are not independent of each other.
    """

    left: int
    right: int
    winner: int | None
    item: int


@dataclass(frozen=True)
class Tally:
    """`wins` (G, n, n): how often the row was preferred to the column, for each of G items; `ties` alike, symmetric."""

    wins: np.ndarray
    ties: np.ndarray

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs that were compared at all, the lower number first."""
        met = self.wins.sum(axis=0)
        met = met + met.T + self.ties.sum(axis=0)
        return [(i, j) for i, j in zip(*np.nonzero(np.triu(met, 1)))]

    @property
    def votes(self) -> int:
        """How many there are."""
        return int(self.wins.sum() + self.ties.sum() / 2)

    def share(self, i: int, j: int) -> tuple[float, int]:
        """How often `i` was preferred to `j`, ties as a half, and of how many votes; NaN of none."""
        won, lost, tied = (
            float(m[:, a, b].sum()) for m, a, b in ((self.wins, i, j), (self.wins, j, i), (self.ties, i, j))
        )
        count = won + lost + tied
        return ((won + tied / 2) / count if count else float("nan")), int(count)


def tally(ballots: Iterable[Ballot], candidates: int) -> Tally:
    """The counts of `ballots` about `candidates`, items in the order of their numbers."""
    given: Sequence[Ballot] = list(ballots)
    place = {item: g for g, item in enumerate(sorted({b.item for b in given}))}
    wins, ties = np.zeros((2, len(place), candidates, candidates))
    for b in given:
        if b.winner is None:
            ties[place[b.item], b.left, b.right] += 1
            ties[place[b.item], b.right, b.left] += 1
        else:
            wins[place[b.item], b.winner, b.left + b.right - b.winner] += 1
    return Tally(wins, ties)
