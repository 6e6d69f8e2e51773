"""Which pair is next: that with fewest votes, on sides that even out, and now and then one that tests the voter."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from darkroom.evaluation.study.design import DAMAGED, Design, Exhibit
from darkroom.evaluation.study.votes import Trial, Vote

__all__ = ["exhibits", "next_trial", "regular_count", "right_answer"]


def regular_count(design: Design) -> int:
    """How many votes one voter can give who sees everything once."""
    return len(design.questions) * len(design.items) * len(design.pairs)


def next_trial(design: Design, rater: str, mine: Sequence[Vote], everyone: Sequence[Vote]) -> Trial | None:
    """The next one for `rater`, who was shown `mine` of all that `everyone` was shown; None when all is seen."""
    rng = random.Random(f"{design.secret} {rater} {len(mine)}")
    answered = [v for v in mine if v.trial.kind == "vote"]
    if len(answered) == regular_count(design):
        return None
    if _falls_on(design, rater, "attention", design.attention, len(mine)):
        return _attention(design, rng)
    if answered and _falls_on(design, rater, "repeat", design.repeats, len(mine)):
        # Not one of the last few, which are still before the eyes.
        t = rng.choice(answered[: max(1, len(answered) - 5)]).trial
        return Trial("repeat", t.question, t.item, t.right, t.left)
    return _vote(design, rng, {_place(v.trial) for v in answered}, [v.trial for v in everyone])


def right_answer(trial: Trial) -> str:
    """Of an attention trial: the side that is whole."""
    return "right" if trial.left == DAMAGED else "left"


def exhibits(trial: Trial) -> tuple[Exhibit, Exhibit]:
    """The pictures on the left and on the right."""
    whole = max(trial.left, trial.right)  # of an attention trial, whose picture both sides show
    left, right = (
        Exhibit(whole, trial.item, True) if c == DAMAGED else Exhibit(c, trial.item) for c in (trial.left, trial.right)
    )
    return left, right


Place = tuple[str, int, tuple[int, int]]


def _place(trial: Trial) -> Place:
    return trial.question, trial.item, trial.pair


def _falls_on(design: Design, rater: str, kind: str, share: float, number: int) -> bool:
    """Whether trial `number` of `rater` is of that kind: one of each block, at a place that nobody can foresee."""
    if not share:
        return False
    block, within = divmod(number, max(2, round(1 / share)))
    place = random.Random(f"{design.secret} {rater} {kind} {block}").randrange(max(2, round(1 / share)))
    return within == place


def _attention(design: Design, rng: random.Random) -> Trial:
    sides = [rng.randrange(len(design.candidates)), DAMAGED]
    rng.shuffle(sides)
    return Trial("attention", rng.choice(design.questions), rng.randrange(len(design.items)), *sides)


def _vote(design: Design, rng: random.Random, seen: set[Place], shown: Sequence[Trial]) -> Trial:
    """Fewest votes first: of the question and pair, then of the item; sides so that each is left as often as right."""
    regular = [t for t in shown if t.kind == "vote"]
    by_pair = Counter((t.question, t.pair) for t in regular)
    by_place = Counter(map(_place, regular))
    rest: dict[tuple[str, tuple[int, int]], list[int]] = {}
    for question in design.questions:
        for pair in design.pairs:
            items = [i for i in range(len(design.items)) if (question, i, pair) not in seen]
            if items:
                rest[question, pair] = items
    question, pair = min(rest, key=lambda k: (by_pair[k], rng.random()))
    item = min(rest[question, pair], key=lambda i: (by_place[question, i, pair], rng.random()))
    lefts = Counter(t.left for t in regular if t.question == question and t.pair == pair)
    left, right = sorted(pair, key=lambda c: (lefts[c], rng.random()))
    return Trial("vote", question, item, left, right)
