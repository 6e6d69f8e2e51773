"""A study's report on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from darkroom.evaluation.share import wilson
from darkroom.evaluation.study.report import Duel, Report, Section
from darkroom.evaluation.study.votes import PERSON

__all__ = ["print_report"]


def print_report(found: Report) -> None:
    """Tables of each question and sort of voter, and under them what is to be known of the numbers."""
    console = Console(highlight=False)
    for section in found.sections:
        console.print(_table(section))
        for line in _remarks(section, found.candidates):
            console.print(line, markup=False)
        console.print()
    for line in _closing(found):
        console.print(line, markup=False)


def _table(s: Section) -> Table:
    title = f"{s.question}, by {'people' if s.voter == PERSON else f'the machine {s.voter}'}"
    table = Table("rank", "candidate", "won", "95 %", "points", "±", "Elo", "votes", title=title)
    table.columns[1].overflow = "fold"
    table.columns[3].no_wrap = True
    for r in s.ranking:
        low, high = r.share_interval
        points = ("–", "–", "–") if r.points is None else (f"{r.rank}", f"{r.points:.0f}", f"{r.reach:.0f}")
        share = ("–", "–") if not r.votes else (f"{r.share:.1%}", f"{low:.1%} – {high:.1%}")
        table.add_row(points[0], r.candidate, *share, *points[1:], f"{r.elo:.1f}", str(r.votes))
    return table


def _remarks(s: Section, candidates: tuple[str, ...]) -> Iterator[str]:
    yield from map(_duel, s.duels)
    if s.missing is not None:
        yield f"No points yet: {s.missing}."
    if s.fragile is not None:
        f = s.fragile
        yield (
            f"{candidates[f.first]} is first; without {f.dropped} of {f.votes} votes ({f.dropped / f.votes:.1%}) "
            f"{candidates[f.second]} would be ahead of it."
        )
    if s.agreement == s.agreement:
        yield f"Voters agree with each other: Krippendorff's alpha {s.agreement:.2f} (1 always, 0 as by chance)."
    chosen, of = s.left
    if of:
        low, high = wilson(chosen / of, of)
        odd = "" if low <= 0.5 <= high else ": more than chance makes"
        yield f"Left was preferred in {chosen} of {of} ({chosen / of:.0%}){odd}."


def _duel(d: Duel) -> str:
    counts = f"{d.first} {d.won} : {d.lost} {d.second}, {d.tied} equal"
    low, high = d.decision.interval
    proof = f"share {low:.1%} – {high:.1%} at all times, evidence {d.decision.evidence:.3g} to 1"
    said = {
        "better": f"{d.first} is better",
        "worse": f"{d.second} is better",
        "equal": "neither is better by more than 5 %",
        "open": f"open, about {d.decision.more} more preferences decide it if they go on so",
    }[d.decision.verdict]
    return f"{counts}: {said} ({proof})"


def _closing(found: Report) -> Iterator[str]:
    if not found.sections:
        yield "There are no votes yet."
        return
    same, of = found.repeated
    if of:
        yield f"Of pairs that came twice {same} of {of} were answered alike."
    if found.left_out:
        yield f"Left out for failing the pairs that test attention: {', '.join(found.left_out)}."
    if len({s.question for s in found.sections}) > 1 and found.elo:
        means = ", ".join(f"{c} {e:.1f}" for c, e in sorted(found.elo.items(), key=lambda item: -item[1]))
        yield f"Elo as in the papers, mean of the questions: {means}."
    if found.voters:
        yield (
            "Every pair is decided: voting may stop."
            if found.decided
            else "Not every pair is decided: more votes help."
        )
