"""When enough votes are in: tests that may be read after every vote.

Of the votes that prefer one of a pair, W for one and L for the other, a fair coin gives each order with probability
2^−(W+L). The bet that the coin is of an unknown kind, all kinds alike (Ville 1939; Robbins 1970), has the value

    E = B(1 + W, 1 + L) · 2^(W+L)

times its stake. Were neither picture better, it would ever reach 1/α with probability at most α, however often one
looks. The same bet against every other share p gives an interval of p that holds at all times at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, lgamma, log

__all__ = ["Decision", "decide", "evidence", "interval"]

MARGIN = 0.05  # shares within 0.5 ± this are called equal
FAR = 1_000_000  # votes that nobody will give


@dataclass(frozen=True)
class Decision:
    """`verdict`: "better", "worse", "equal", or "open". `share`: of the decisive votes, with its `interval`.

    `more`: about how many decisive votes an open pair still takes if the share stays; None if it is not open.
    """

    verdict: str
    share: float
    interval: tuple[float, float]
    evidence: float
    more: int | None


def evidence(won: float, lost: float, share: float = 0.5) -> float:
    """The value E of the bet that the true share is not `share`."""
    return exp(min(700.0, _log_evidence(won, lost, share)))


def interval(won: float, lost: float, error: float = 0.05) -> tuple[float, float]:
    """All shares that the bet has not refuted at `error`: right at all times at once with probability 1 − `error`."""
    n = won + lost
    peak, bound = (won / n if n else 0.5), log(1 / error)
    return _edge(won, lost, 0.0, peak, bound), _edge(won, lost, 1.0, peak, bound)


def decide(won: int, lost: int, *, pairs: int = 1, error: float = 0.05, margin: float = MARGIN) -> Decision:
    """What the votes of one pair say, when `pairs` of them are looked at and any wrong one is an error.

    Better and worse: the fair coin is refuted. Equal: the interval lies within 0.5 ± `margin`.
    """
    error = error / pairs
    low, high = interval(won, lost, error)
    share = won / (won + lost) if won + lost else float("nan")
    said = evidence(won, lost)
    if 0.5 - margin <= low and high <= 0.5 + margin:
        return Decision("equal", share, (low, high), said, None)
    if said >= 1 / error:
        return Decision("better" if won > lost else "worse", share, (low, high), said, None)
    return Decision("open", share, (low, high), said, _more(won, lost, error, margin))


def _log_evidence(won: float, lost: float, share: float) -> float:
    if (won and share <= 0) or (lost and share >= 1):
        return float("inf")
    likelihood = (won * log(share) if won else 0.0) + (lost * log(1 - share) if lost else 0.0)
    return lgamma(1 + won) + lgamma(1 + lost) - lgamma(2 + won + lost) - likelihood


def _edge(won: float, lost: float, outer: float, inner: float, bound: float) -> float:
    """Where between `inner`, which stands, and `outer` the bet reaches `bound`."""
    if _log_evidence(won, lost, outer) < bound:
        return outer
    for _ in range(60):
        middle = (outer + inner) / 2
        outer, inner = (middle, inner) if _log_evidence(won, lost, middle) >= bound else (outer, middle)
    return (outer + inner) / 2


def _more(won: int, lost: int, error: float, margin: float) -> int:
    """Votes until a decision, if they go on as before; before the first one, of a share of 0.6."""
    n = won + lost
    share = won / n if n else 0.6

    def ends(count: float) -> bool:
        w, rest = share * count, (1 - share) * count
        low, high = interval(w, rest, error)
        return _log_evidence(w, rest, 0.5) >= log(1 / error) or (0.5 - margin <= low and high <= 0.5 + margin)

    low, high = float(n), max(2.0 * n, 8.0)
    while not ends(high) and high < FAR:
        low, high = high, 2 * high
    while high - low > max(0.5, high / 200):
        middle = (low + high) / 2
        low, high = (low, middle) if ends(middle) else (middle, high)
    return ceil(high - n)
