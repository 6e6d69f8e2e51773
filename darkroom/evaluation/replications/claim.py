"""What a claim of a paper is, how it is tried, and the page that tells how it went."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from darkroom.evaluation.kernel import difference
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.replications.trial import Trial
from darkroom.registry import Registry

__all__ = [
    "CLAIMS",
    "Claim",
    "Outcome",
    "Verdict",
    "above_zero",
    "apart",
    "no_higher",
    "page",
    "replicated",
]


@dataclass(frozen=True)
class Verdict:
    """One part of a claim: what is said, and whether it was so here; None: too few pictures to tell."""

    said: str
    holds: bool | None

    @property
    def word(self) -> str:
        return {True: "holds", False: "does not hold", None: "not decided at this scale"}[self.holds]


@dataclass(frozen=True)
class Outcome:
    """A table (its first row the heading), what it says of each part of the claim, a plot of it (SVG), and pictures
    (uint8 (H, W, 3))."""

    table: Sequence[Sequence[str]]
    verdicts: Sequence[Verdict]
    plot: str
    picture: np.ndarray
    notes: str = ""  # with what it was measured: models and their hashes, numbers of pictures


def apart(higher: Measured | tuple[float, float], lower: Measured | tuple[float, float]) -> bool | None:
    """Whether the one is above the other: the 95 % interval of the difference lies above zero, or, where all that is
    known are their intervals, these do not meet. None where neither can be said."""
    a, b = (m if isinstance(m, Measured) else Measured(float("nan"), m) for m in (higher, lower))
    interval = difference(a, b).interval
    return None if interval is None else _above_zero(interval)


def _above_zero(interval: tuple[float, float]) -> bool | None:
    return True if interval[0] > 0 else False if interval[1] < 0 else None


def no_higher(a: Measured | tuple[float, float], b: Measured | tuple[float, float]) -> bool | None:
    """Whether it cannot be told that a is above b; None where there is no interval."""
    if any(isinstance(m, Measured) and m.interval is None for m in (a, b)):
        return None
    return not apart(a, b)


@dataclass(frozen=True)
class Claim:
    """`paper`: what the paper's own table or text says, word for word numbers. `protocol`: what is done here."""

    title: str
    source: str
    paper: str
    protocol: str
    run: Callable[[Trial], Outcome]


CLAIMS: Registry[Claim] = Registry("claim")


def replicated(name: str, trial: Trial) -> tuple[Outcome, float]:
    """Try the claim; and the seconds of processor time that it took, which do not depend on what else runs. They count
    those of parts that were made before and are kept."""
    began = time.process_time()
    outcome = CLAIMS[name].run(trial)
    return outcome, trial.earlier + time.process_time() - began


def above_zero(differences: np.ndarray) -> bool | None:
    """Whether the mean of (N,) differences is above zero; None where its 95 % interval holds zero."""
    interval = mean_of(differences).interval
    return None if interval is None else _above_zero(interval)


def page(name: str, outcome: Outcome, trial: Trial, seconds: float, machine: str) -> str:
    """Markdown: the claim, the paper's numbers, the table, the verdicts. Plot and picture lie beside it, as
    NAME.svg and NAME.png."""
    claim, name = CLAIMS[name], CLAIMS.name(name)
    command = f"darkroom replicate {name} --scale {trial.scale} --seed {trial.seed}"
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
        *(f"- **{v.word[0].upper()}{v.word[1:]}**: {v.said}" for v in outcome.verdicts),
        "",
        f"![The table as a plot]({name}.svg)",
        "",
        f"![Pictures]({name}.png)",
        "",
        *([outcome.notes, ""] if outcome.notes else []),
        f"`{command}`: {seconds:.0f} s of processor time, {machine}.",
    ]
    return "\n".join(lines) + "\n"
