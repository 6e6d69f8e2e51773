"""Shares of a count with their intervals."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Share", "Z", "wilson"]

Z = 1.959963984540054  # of a 95 % interval


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 95 % score interval (Wilson 1927) of a share of `count`; with ties as halves too wide, never too narrow."""
    if not count:
        return float("nan"), float("nan")
    middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    reach = Z / (1 + Z * Z / count) * (share * (1 - share) / count + Z * Z / (4 * count * count)) ** 0.5
    return max(0.0, middle - reach), min(1.0, middle + reach)  # rounding may pass the ends


@dataclass(frozen=True)
class Share:
    """How many of those that were asked were kept, with the 95 % Wilson interval."""

    kept: int
    asked: int

    @property
    def value(self) -> float:
        return self.kept / self.asked if self.asked else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.value, self.asked)
