"""The report on what a model's pictures follow: as a table, as JSON, as a drawing."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import BinaryIO

from rich.console import Console
from rich.table import Table

from darkroom.evaluation.conditioning import ConditioningReport
from darkroom.evaluation.first_stage import Ceiling

__all__ = ["draw_conditioning", "print_conditioning", "write_conditioning"]

PANEL, MARGIN, GAP = (190, 110), 34, 46  # pixels
COLUMNS = 4
LINES = (("words", "#c0392b", "the word"), ("seeds", "#2c3e50", "the seed"))


def print_conditioning(report: ConditioningReport, ceiling: Ceiling) -> None:
    """Two tables; shares of variance are those of the first, a middle and the last level."""
    places = (0, len(report.signal) // 2, len(report.signal) - 1)
    levels = [f"{report.signal[p]:.3g}" for p in places]
    table = Table("word", "followed", "by chance", "unmoved", *(f"at {level}" for level in levels))
    for sort, effect in report.effects.items():
        shares = [f"{effect.words[p]:.0%}, {effect.seeds[p]:.0%}" for p in places]
        table.add_row(sort, f"{effect.followed:.0%}", f"{effect.chance:.0%}", f"{effect.unmoved:.0%}", *shares)
    console = Console()
    console.print(table)
    console.print(
        f"{report.pictures} pictures. followed: show what the prompt says. unmoved: pairs from one seed that show the "
        "same whatever the prompt says.\nat …: what the estimate at this share of signal owes to word and seed."
    )
    rows = Table("first stage", "true scenes", "decoded")
    for name in ("kinds", "colours", "parts", "counts", "relations", "surroundings"):
        rows.add_row(name, f"{getattr(ceiling.true, name):.1%}", f"{getattr(ceiling.decoded, name):.1%}")
    console.print(rows)
    console.print(
        f"PSNR {ceiling.psnr:.1f} dB, {ceiling.worst_psnr:.1f} at worst; grid of patches {ceiling.grid:.2f} (1: none)"
    )


def write_conditioning(file: BinaryIO, report: ConditioningReport, ceiling: Ceiling) -> None:
    """As JSON."""
    file.write((json.dumps({**asdict(report), "first_stage": asdict(ceiling)}, indent=1) + "\n").encode())


def draw_conditioning(file: BinaryIO, report: ConditioningReport) -> None:
    """As SVG: for every sort of word the shares of word and seed from the noisiest level to the last."""
    width, height = PANEL
    rows = -(-len(report.effects) // COLUMNS)
    total = (MARGIN + COLUMNS * (width + GAP), MARGIN + rows * (height + GAP + 14))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total[0]}" height="{total[1]}" '
        'font-family="sans-serif" font-size="11" fill="#333">',
        f'<rect width="{total[0]}" height="{total[1]}" fill="white"/>',
    ]
    for i, (_, color, text) in enumerate(LINES):
        x = MARGIN + 150 * i
        parts.append(f'<path d="M{x} 14h24" stroke="{color}" stroke-width="2"/><text x="{x + 30}" y="18">{text}</text>')
    parts.append(f'<text x="{MARGIN + 300}" y="18">share of the estimate\'s variance; noise falls to the right</text>')
    for i, (sort, effect) in enumerate(report.effects.items()):
        x, y = MARGIN + i % COLUMNS * (width + GAP), MARGIN + 14 + i // COLUMNS * (height + GAP + 14)
        parts.append(f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="none" stroke="#bbb"/>')
        parts.append(f'<text x="{x}" y="{y - 5}">{sort}: {effect.followed:.0%} followed</text>')
        for share in (0, 0.5, 1):
            level = y + height * (1 - share)
            parts.append(f'<text x="{x - 4}" y="{level + 4:.1f}" text-anchor="end" font-size="9">{share:g}</text>')
        last = max(1, len(report.signal) - 1)
        for place, anchor in ((0, "start"), (len(report.signal) // 2, "middle"), (len(report.signal) - 1, "end")):
            signal = f"{report.signal[place]:.2g}"
            at = x + width * place / last
            parts.append(
                f'<text x="{at:.1f}" y="{y + height + 12}" text-anchor="{anchor}" font-size="9">{signal}</text>'
            )
        for name, color, _ in LINES:
            shares = getattr(effect, name)
            points = " ".join(f"{x + width * n / last:.1f},{y + height * (1 - s):.1f}" for n, s in enumerate(shares))
            parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
    parts.append("</svg>\n")
    file.write("\n".join(parts).encode())
