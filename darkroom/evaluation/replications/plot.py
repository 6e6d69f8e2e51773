"""Curves as SVG, with no library: panels side by side over one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

__all__ = ["Panel", "curves"]

# Values with their 95 % intervals, or None where there is none, from left to right.
Panel = Sequence[tuple[float, tuple[float, float] | None]]

WIDTH, HEIGHT, MARGIN, GAP = 190, 130, 44, 56


def curves(x_name: str, places: Sequence[str], panels: Mapping[str, Panel]) -> str:
    """A panel for each number: its values at `places`, which are spaced evenly."""
    total = (MARGIN + len(panels) * (WIDTH + GAP), MARGIN + HEIGHT + 36)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total[0]}" height="{total[1]}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{total[0]}" height="{total[1]}" fill="white"/>',
    ]
    for i, (title, points) in enumerate(panels.items()):
        left, top = MARGIN + i * (WIDTH + GAP), 26
        ends = [v for value, interval in points for v in (value, *(interval or ()))]
        low, high = min(ends), max(ends)
        reach = high - low or 1.0

        def at(place: int, value: float, left: int = left, low: float = low, reach: float = reach) -> str:
            x = left + 12 + (WIDTH - 24) * place / max(1, len(places) - 1)
            return f"{x:.1f},{26 + HEIGHT - 8 - (HEIGHT - 16) * (value - low) / reach:.1f}"

        parts.append(f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>')
        parts.append(f'<text x="{left}" y="{top - 8}">{escape(title)}</text>')
        for value in (low, high):
            y = at(0, value).partition(",")[2]
            parts.append(
                f'<text x="{left - 4}" y="{float(y) + 4:.1f}" text-anchor="end" font-size="9">{value:.3g}</text>'
            )
        for n, ((_, interval), name) in enumerate(zip(points, places)):
            x = at(n, low).partition(",")[0]
            parts.append(
                f'<text x="{x}" y="{top + HEIGHT + 13}" text-anchor="middle" font-size="9">{escape(name)}</text>'
            )
            if interval is not None:
                ends_at = " L".join(at(n, v) for v in interval)
                parts.append(f'<path d="M{ends_at}" stroke="#89a" stroke-width="1.5"/>')
        line = " ".join(at(n, value) for n, (value, _) in enumerate(points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="#1565c0" stroke-width="2"/>')
        parts.append(
            f'<text x="{left + WIDTH / 2}" y="{top + HEIGHT + 28}" text-anchor="middle">{escape(x_name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])
