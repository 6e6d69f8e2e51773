"""The page that voters see: one HTML text, alone on a disk or before a server."""

from __future__ import annotations

import base64
import json
from importlib.resources import files
from typing import Any

from darkroom.errors import InputError
from darkroom.evaluation.study.collection import Collection
from darkroom.evaluation.study.design import DAMAGED, QUESTIONS, Design, Exhibit
from darkroom.evaluation.study.trials import exhibits, next_trial, regular_count
from darkroom.evaluation.study.votes import ANSWERS, Trial, Vote, Votes

__all__ = ["page", "shown", "static_page", "take_votes"]

MAX_STATIC = 512 << 20  # bytes of pictures in one file: more than browsers open with ease


def page(study: dict[str, Any] | None = None) -> str:
    """The page. `study`: all that it shows, for one that asks no server."""
    folder = files(__name__)
    style, script, body = (folder.joinpath(name).read_text("utf-8") for name in ("vote.css", "vote.js", "vote.html"))
    data = json.dumps(study).replace("<", "\\u003c")  # no text of a prompt can end the element
    return body.replace("/*style*/", style).replace("/*script*/", script).replace("null/*study*/", data)


def shown(design: Design, trial: Trial) -> dict[str, str]:
    """What a voter is told of a trial."""
    left, right = exhibits(trial)
    return {
        "question": trial.question,
        "ask": QUESTIONS[trial.question],
        "prompt": design.items[trial.item].prompt if trial.question == "prompt" else "",
        "left": design.label(left),
        "right": design.label(right),
    }


def static_page(design: Design, collection: Collection, most: int = 200) -> str:
    """One file that asks up to `most` questions and saves the answers as JSON for `take_votes`."""
    trials: list[Vote] = []
    total = min(most, regular_count(design))
    while sum(v.trial.kind == "vote" for v in trials) < total:
        trial = next_trial(design, "page", trials, trials)
        if trial is None:
            break
        trials.append(Vote(len(trials), trial, "page", "page", None, None, None))
    pictures = {design.label(e): e for v in trials for e in exhibits(v.trial)}
    encoded, size = {}, 0
    for label, exhibit in pictures.items():
        data = collection.png(exhibit)
        size += len(data)
        if size > MAX_STATIC:
            raise InputError(f"the pictures take more than {MAX_STATIC >> 20} MiB: ask fewer questions with --most")
        encoded[label] = "data:image/png;base64," + base64.b64encode(data).decode()
    return page({"key": _key(design), "trials": [shown(design, v.trial) for v in trials], "pictures": encoded})


def take_votes(design: Design, votes: Votes, data: dict[str, Any], name: str) -> int:
    """Add the answers that a page saved, once, however often the file comes; returns how many were new.

    `InputError` for votes of another study, or if the file is not as the page writes it: then none is taken.
    """
    if data.get("study") != _key(design):
        raise InputError(f"{name} holds no votes of this study")
    rater, rows, known = data.get("rater"), data.get("votes"), design.exhibits()
    if not isinstance(rater, str) or not rater or not isinstance(rows, list):
        raise InputError(f"{name} holds no list of votes")
    read = []
    for number, row in enumerate(rows, 1):
        row = row if isinstance(row, dict) else {}
        left, right = (known.get(str(row.get(side))) for side in ("left", "right"))
        if left is None or right is None or left.item != right.item or row.get("answer") not in ANSWERS:
            raise InputError(f"{name}: vote {number} is none of this study")
        if row.get("question") not in design.questions:
            raise InputError(f"{name}: vote {number} answers the unknown question {row.get('question')!r}")
        tested = left.damaged + right.damaged
        if tested != (left.candidate == right.candidate):
            raise InputError(f"{name}: vote {number} is about two pictures that this study does not compare")
        sides = [DAMAGED if e.damaged else e.candidate for e in (left, right)]
        kind = "attention" if tested else "vote"
        trial = Trial(kind, row["question"], left.item, *sides)
        place = (trial.question, trial.item, trial.pair)
        if kind == "vote" and place in {(t.question, t.item, t.pair) for t, _, _ in read if t.kind == "vote"}:
            trial = Trial("repeat", trial.question, trial.item, trial.left, trial.right)
        seconds = row.get("seconds")
        read.append((trial, row["answer"], float(seconds) if isinstance(seconds, (int, float)) else None))
    with votes.lock:
        before = votes.of(f"page:{rater}")[: len(read)]
        if [v.trial for v in before] != [t for t, _, _ in read[: len(before)]]:
            raise InputError(f"{name} holds other votes of the voter {rater!r} than were taken before")
        shown_before = [v.id for v in before] + [votes.show(f"page:{rater}", t).id for t, _, _ in read[len(before) :]]
        for vote, (_, answer, seconds) in zip(shown_before, read):
            votes.answer(vote, f"page:{rater}", answer, seconds)
    return len(read) - len(before)


def _key(design: Design) -> str:
    """What a page and its votes are known by; the secret cannot be told from it."""
    return design.label(Exhibit(-1, -1))
