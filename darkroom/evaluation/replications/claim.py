"""What a claim of a paper is, how it is tried, and the page that tells how it went."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from darkroom.registry import Registry

__all__ = ["CLAIMS", "SCALES", "Claim", "Outcome", "Scale", "Verdict", "page", "replicated"]

Scale = Literal["tiny", "small", "full"]
SCALES: Registry[Scale] = Registry("scale")
SCALES.add("tiny", "tiny")
SCALES.add("small", "small")
SCALES.add("full", "full")


@dataclass(frozen=True)
class Verdict:
    """One part of a claim: what is said, and whether it was so here."""

    said: str
    holds: bool


@dataclass(frozen=True)
class Outcome:
    """A table (its first row the heading) and what it says of each part of the claim."""

    table: Sequence[Sequence[str]]
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class Claim:
    """`paper`: what the paper's own table or text says, word for word numbers. `protocol`: what is done here."""

    title: str
    source: str
    paper: str
    protocol: str
    run: Callable[[Scale, int], Outcome]  # scale, seed


CLAIMS: Registry[Claim] = Registry("claim")


def replicated(name: str, scale: Scale, seed: int = 0) -> tuple[Outcome, float]:
    """Try the claim; and the seconds that it took."""
    began = time.monotonic()
    return CLAIMS[name].run(scale, seed), time.monotonic() - began


def page(name: str, outcome: Outcome, scale: Scale, seed: int, seconds: float) -> str:
    """Markdown: the claim, the paper's numbers, the table, the verdicts."""
    claim = CLAIMS[name]
    heading, *rows = outcome.table
    lines = [
        f"# {claim.title}",
        "",
        f"{claim.source}. {claim.paper}",
        "",
        f"**Here.** {claim.protocol}",
        "",
        *(f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *rows)),
        "",
        *(f"- {'Holds' if v.holds else '**Does not hold**'}: {v.said}" for v in outcome.verdicts),
        "",
        f"`darkroom replicate {CLAIMS.name(name)} --scale {scale} --seed {seed}`, {seconds:.0f} seconds.",
    ]
    return "\n".join(lines) + "\n"
