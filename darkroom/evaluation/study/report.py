"""What the votes of a study say so far, people and each machine apart."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from darkroom.errors import InputError, printable
from darkroom.evaluation.share import wilson
from darkroom.evaluation.study.agreement import alpha
from darkroom.evaluation.study.design import DAMAGED, Design
from darkroom.evaluation.study.elo import elo
from darkroom.evaluation.study.fragile import Fragility, fragility
from darkroom.evaluation.study.stopping import Decision, decide
from darkroom.evaluation.study.strength import strengths
from darkroom.evaluation.study.tally import Ballot, Tally, tally
from darkroom.evaluation.study.trials import right_answer
from darkroom.evaluation.study.votes import PERSON, Vote

__all__ = ["Duel", "Ranked", "Report", "Section", "arena_lines", "report", "write_report"]

MIN_TESTS, MAX_WRONG = 4, 0.25  # attention pairs until a voter is judged by them, and the share that may be wrong


@dataclass(frozen=True)
class Ranked:
    """A candidate. `share`: of its votes won, ties as a half. `points`: Bradley–Terry on the scale of Elo, with how far
    their interval reaches. `rank`: 1 + how many are better beyond doubt. None where the votes give no bound yet."""

    candidate: str
    votes: int
    share: float
    share_interval: tuple[float, float]
    elo: float
    points: float | None = None
    reach: float | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Duel:
    """Two candidates: votes for each, ties, and what they prove of the first."""

    first: str
    second: str
    won: int
    tied: int
    lost: int
    decision: Decision


@dataclass(frozen=True)
class Section:
    """One question as one sort of voter answers it. `missing`: why there are no strengths."""

    question: str
    voter: str
    votes: int
    ranking: list[Ranked]
    duels: list[Duel]
    fragile: Fragility | None
    missing: str | None
    agreement: float
    left: tuple[int, int]  # how many of how many preferences were for the left side

    @property
    def decided(self) -> bool:
        """Whether every pair is."""
        return all(d.decision.verdict != "open" for d in self.duels)


@dataclass(frozen=True)
class Report:
    """`elo`: each candidate's mean over the questions, as the papers print it; people's votes only.

    `left_out`: voters who failed the pairs that test attention. `repeated`: how many pairs that came twice were
    answered alike, of how many.
    """

    candidates: tuple[str, ...]
    voters: int
    left_out: list[str]
    repeated: tuple[int, int]
    sections: list[Section]
    elo: dict[str, float]

    @property
    def decided(self) -> bool:
        """Whether people may stop voting."""
        people = [s for s in self.sections if s.voter == PERSON]
        return bool(people) and all(s.decided for s in people)


def report(design: Design, votes: Sequence[Vote]) -> Report:
    """Of all answered trials; `InputError` for one of something that the study does not ask."""
    for vote in votes:
        _require_asked(design, vote)
    out = _inattentive(votes)
    kept = [v for v in votes if v.rater not in out]
    sections = []
    for voter in sorted({v.voter for v in kept}, key=lambda v: (v != PERSON, v)):
        for question in design.questions:
            given = [v for v in kept if v.voter == voter and v.trial.question == question and v.trial.kind == "vote"]
            if given:
                sections.append(_section(design, question, voter, given))
    people = [s for s in sections if s.voter == PERSON]
    means = {c: [r.elo for s in people for r in s.ranking if r.candidate == c] for c in design.candidates}
    return Report(
        candidates=design.candidates,
        voters=len({v.rater for v in kept if v.voter == PERSON}),
        left_out=sorted(out),
        repeated=_repeated(kept),
        sections=sections,
        elo={c: sum(points) / len(points) for c, points in means.items() if points},
    )


def _require_asked(design: Design, vote: Vote) -> None:
    trial, candidates = vote.trial, range(DAMAGED, len(design.candidates))
    known = trial.question in design.questions and trial.item in range(len(design.items))
    if not known or trial.left not in candidates or trial.right not in candidates:
        raise InputError(f"pair {vote.id} of the votes is none of this study: {printable(trial)}")


def _section(design: Design, question: str, voter: str, votes: Sequence[Vote]) -> Section:
    ballots = [Ballot(v.trial.left, v.trial.right, v.winner, v.trial.item) for v in votes]
    counted = tally(ballots, len(design.candidates))
    try:
        found, fragile, missing = strengths(counted), fragility(counted), None
    except InputError as error:
        found, fragile, missing = None, None, str(error)
    points = elo(ballots, len(design.candidates))
    ranking = []
    for c, name in enumerate(design.candidates):
        share, count = _overall(counted, c)
        known = Ranked(name, count, share, wilson(share, count), float(points[c]))
        if found is not None:
            strength = {"points": float(found.points[c]), "reach": float(found.errors[c]), "rank": found.ranks[c]}
            known = replace(known, **strength)
        ranking.append(known)
    ranking.sort(key=lambda r: -(r.points if r.points is not None else r.share))
    answers = defaultdict(list)
    for v in votes:
        answers[v.trial.item, v.trial.pair].append(v.winner)
    sides = [v.answer for v in votes if v.answer != "tie"]
    left = (sides.count("left"), len(sides))
    return Section(
        question, voter, len(votes), ranking, _duels(design, counted), fragile, missing, alpha(answers), left
    )


def _overall(votes: Tally, candidate: int) -> tuple[float, int]:
    """The share of its votes that a candidate won, ties as a half, and their number."""
    met = [votes.share(candidate, j) for j in range(votes.wins.shape[1]) if j != candidate]
    count = sum(n for _, n in met)
    return (sum(share * n for share, n in met if n) / count if count else float("nan")), count


def _duels(design: Design, votes: Tally) -> list[Duel]:
    wins, ties, duels = votes.wins.sum(axis=0), votes.ties.sum(axis=0), []
    for i, j in design.pairs:
        won, lost, tied = int(wins[i, j]), int(wins[j, i]), int(ties[i, j])
        decision = decide(won, lost, pairs=len(design.pairs))
        duels.append(Duel(design.candidates[i], design.candidates[j], won, tied, lost, decision))
    return duels


def _inattentive(votes: Iterable[Vote]) -> set[str]:
    """Voters who got more than a quarter of at least four attention pairs wrong."""
    tests = defaultdict(list)
    for v in votes:
        if v.trial.kind == "attention":
            tests[v.rater].append(v.answer == right_answer(v.trial))
    return {r for r, right in tests.items() if len(right) >= MIN_TESTS and right.count(False) > MAX_WRONG * len(right)}


def _repeated(votes: Sequence[Vote]) -> tuple[int, int]:
    first = {(v.rater, v.trial.question, v.trial.item, v.trial.pair): v for v in votes if v.trial.kind == "vote"}
    same = []
    for v in votes:
        before = first.get((v.rater, v.trial.question, v.trial.item, v.trial.pair))
        if v.trial.kind == "repeat" and before is not None:
            same.append(before.winner == v.winner)
    return sum(same), len(same)


def write_report(file: BinaryIO, found: Report) -> None:
    """As JSON; what is not known is null."""
    file.write((json.dumps(_finite(asdict(found)), indent=1) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and value != value else value


def arena_lines(design: Design, votes: Iterable[Vote]) -> Iterable[str]:
    """The regular votes as LMArena publishes them: one JSON object a line."""
    winners = {"left": "model_a", "right": "model_b", "tie": "tie"}
    for v in votes:
        if v.trial.kind == "vote" and v.answer is not None:
            yield json.dumps(
                {
                    "model_a": design.candidates[v.trial.left],
                    "model_b": design.candidates[v.trial.right],
                    "winner": winners[v.answer],
                    "judge": v.rater if v.voter == PERSON else v.voter,
                    "anony": True,
                    "tstamp": v.answered,
                    "question": v.trial.question,
                    "prompt": design.items[v.trial.item].prompt,
                }
            )
