"""What calls of the network cost, learned as they are made: rows are joined as far as that is cheaper for each row."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

__all__ = ["Costs"]

TRIES = 2  # calls of a size before it is judged
LOOK_AGAIN = 50  # calls after which a size is tried that was not taken for longest: machines change
NEWEST = 0.3  # weight of a new call in the mean of its size
WORTH = 0.97  # a smaller call is preferred where its rows cost less than this share
COMPANIES = 256  # kept at most, those used last


@dataclass
class _Size:
    seconds: float = 0.0  # a row, the running mean
    tries: int = 0
    last: int = 0  # number of the call


@dataclass
class _Company:
    calls: int = 0
    sizes: dict[int, _Size] = field(default_factory=dict)


class Costs:
    """Seconds a row, by company and by the power of two that the rows of a call reach.

    The first call of a company warms things up and is not counted.
    """

    def __init__(self) -> None:
        self._companies: OrderedDict[Hashable, _Company] = OrderedDict()

    def add(self, company: Hashable, rows: int, seconds: float) -> None:
        """Take in a call of `rows` rows."""
        found = self._companies.setdefault(company, _Company())
        self._companies.move_to_end(company)
        if len(self._companies) > COMPANIES:
            self._companies.popitem(last=False)
        found.calls += 1
        if found.calls == 1:
            return
        size = found.sizes.setdefault(_reached(rows), _Size())
        share = NEWEST if size.tries else 1.0
        size.seconds += share * (seconds / rows - size.seconds)
        size.tries += 1
        size.last = found.calls

    def most(self, company: Hashable, own: int, available: int) -> int:
        """How many of `available` rows the next call should take, of which `own` must be in it."""
        found = self._companies.get(company)
        if found is None or own >= available:
            return available
        reached = [2**n for n in range(_reached(own).bit_length() - 1, _reached(available).bit_length())]
        sizes = {size: found.sizes.get(size, _Size()) for size in reversed(reached)}  # the largest first
        new = [size for size, known in sizes.items() if known.tries < TRIES]
        if new:
            chosen = new[0]
        elif found.calls % LOOK_AGAIN == 0:
            chosen = min(sizes, key=lambda size: sizes[size].last)
        else:
            chosen = next(iter(sizes))
            for size, known in sizes.items():
                if known.seconds < WORTH * sizes[chosen].seconds:
                    chosen = size
        return max(own, min(available, 2 * chosen - 1))


def _reached(rows: int) -> int:
    """The largest power of two that is not above `rows`."""
    return 1 << (rows.bit_length() - 1)
