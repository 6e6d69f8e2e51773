"""Votes of machines: whatever gives a picture a number can vote, and is marked as what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from darkroom.errors import InputError
from darkroom.evaluation.features import open_features
from darkroom.evaluation.judging import load_judge, look
from darkroom.evaluation.prompts import clip_score
from darkroom.evaluation.study.collection import Collection
from darkroom.evaluation.study.design import Design, Item
from darkroom.evaluation.study.trials import next_trial
from darkroom.evaluation.study.votes import Votes
from darkroom.evaluation.verdict import judge_picture
from darkroom.pictures.reading import read_pixels
from darkroom.pixels import to_tensor
from darkroom.registry import Registry

__all__ = ["MACHINES", "Scorer", "let_vote"]

# The number of the picture in a file that shows an item: more is better, the same is a tie.
Scorer = Callable[[Path, Item], float]

# By name: what makes a scorer of the weights behind "=", and the questions that it can answer.
MACHINES: Registry[tuple[Callable[[str | None], Scorer], tuple[str, ...]]] = Registry("machine that votes")


def let_vote(name: str, design: Design, collection: Collection, votes: Votes) -> int:
    """Every pair that the machine `name`, or NAME=WEIGHTS, has not judged yet; returns how many it did.

    It sees each picture once. `InputError` where it cannot answer any of the questions.
    """
    name, _, weights = name.partition("=")
    make, questions = MACHINES[name]
    asked = [q for q in design.questions if q in questions]
    if not asked:
        raise InputError(f"{MACHINES.name(name)} can answer {', '.join(questions)}, which this study does not ask")
    scorer, known, count = make(weights or None), {}, 0
    rater = f"machine:{MACHINES.name(name)}"
    alone = Design(design.candidates, design.items, tuple(asked), 0.0, 0.0, design.secret)

    def score(candidate: int, item: int) -> float:
        if (candidate, item) not in known:
            known[candidate, item] = scorer(collection.path(candidate, item), design.items[item])
        return known[candidate, item]

    mine = votes.of(rater)
    for vote in [v for v in mine if v.answer is None]:  # where it was interrupted
        left, right = (score(c, vote.trial.item) for c in (vote.trial.left, vote.trial.right))
        votes.answer(vote.id, rater, _answer(left, right))
    while (trial := next_trial(alone, rater, mine, mine)) is not None:
        left, right = score(trial.left, trial.item), score(trial.right, trial.item)
        vote = votes.show(rater, trial, MACHINES.name(name))
        votes.answer(vote.id, rater, _answer(left, right))
        mine.append(vote)
        count += 1
    return count


def _answer(left: float, right: float) -> str:
    return "tie" if left == right else "left" if left > right else "right"


def _judge(weights: str | None) -> Scorer:
    """How many of a prompt's promises the picture keeps, by the judge of the picture-book world."""
    judge = load_judge(None if weights is None else Path(weights))

    @torch.no_grad()
    def score(path: Path, item: Item) -> float:
        if item.facts is None:
            raise InputError(f"the judge knows only prompts of `darkroom data prompts`, not {item.prompt!r}")
        found = next(look(judge, to_tensor(read_pixels(path)[None])))
        verdict = judge_picture(item.facts, found.things, found.surroundings)
        asked = [v for v in vars(verdict).values() if v is not None]
        return sum(asked) / len(asked)

    return score


def _clip(weights: str | None) -> Scorer:
    """The CLIP score of picture and prompt."""
    network = open_features("clip" if weights is None else f"clip={weights}")

    def score(path: Path, item: Item) -> float:
        return clip_score([network(to_tensor(read_pixels(path)[None]))], [item.prompt], network).value

    return score


MACHINES.add("judge", (_judge, ("prompt",)))
MACHINES.add("clip", (_clip, ("prompt",)))
