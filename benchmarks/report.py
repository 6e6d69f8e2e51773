"""Results as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.measure import Figures

__all__ = ["BASE", "Row", "table"]

BASE = "diffusers"  # what ratios are relative to


@dataclass(frozen=True)
class Row:
    """What one piece of work came to. `errors` are relative to the peer's network in float32."""

    title: str
    flop: int
    figures: dict[str, Figures]
    errors: dict[str, float]


def table(rows: Sequence[Row], peak: float) -> str:
    """Markdown. `peak` in FLOP/s."""
    lines = [
        f"| work | who | seconds | times as fast as {BASE} | of the peak | memory | error |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        for name, f in row.figures.items():
            ratios = sorted(b / s for b, s in zip(row.figures[BASE].seconds, f.seconds))
            spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})"
            memory = "" if f.peak is None else f"{f.peak / 2**20:.0f} MiB"
            lines.append(
                f"| {row.title} | {name} | {f.median:.3f} | {spread} | {row.flop / f.median / peak:.0%} | {memory} | "
                f"{row.errors[name]:.1e} |"
            )
    return "\n".join(lines)
