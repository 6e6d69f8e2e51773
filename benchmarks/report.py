"""Results as a table in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.measure import Figures
from benchmarks.work import BASE

__all__ = ["HEAD", "Row", "lines"]

HEAD = (
    f"| work | who | seconds | times as fast as {BASE} | of the peak | memory | error |\n"
    "|---|---|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Row:
    """What one piece of work came to. `errors` are relative to the peer in float32, for those that were compared."""

    title: str
    flop: int | None
    figures: Mapping[str, Figures]
    errors: Mapping[str, float]


def lines(row: Row, peak: float) -> str:
    """Lines under `HEAD`: one for each contender, one for each part of its time. `peak` in FLOP/s.

    Cells stay empty where a column has no meaning.
    """
    base, found = row.figures.get(BASE), []
    for name, f in row.figures.items():
        ratio = "" if base is None else _ratio(base, f)
        share = "" if row.flop is None else f"{row.flop / f.median / peak:.0%}"
        memory = "" if f.peak is None else f"{f.peak / 2**20:.0f} MiB"
        error = f"{row.errors[name]:.1e}" if name in row.errors else ""
        found.append((row.title, name, f"{f.median:.3f}", ratio, share, memory, error))
        for part, seconds in f.parts.items():
            found.append((row.title, f"{name}: {part}", f"{statistics.median(seconds):.3f}", "", "", "", ""))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in found)


def _ratio(base: Figures, figures: Figures) -> str:
    """The median over rounds and its range."""
    ratios = sorted(b / s for b, s in zip(base.seconds, figures.seconds))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
