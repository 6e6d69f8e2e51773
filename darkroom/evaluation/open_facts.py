"""What a caption leaves open, must vary as it does in the world: how often two pictures of one caption agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from darkroom.data.picturebook import KINDS, Scene, sample_scene
from darkroom.data.picturebook.caption import describe
from darkroom.data.picturebook.prompts import Prompt
from darkroom.errors import InputError
from darkroom.evaluation.drawn import Draws, draw_pixels, look_at
from darkroom.evaluation.judging import Findings
from darkroom.models.judge import Judge
from darkroom.types import Request

__all__ = ["OPEN", "Agreement", "agreement", "one_thing_scenes", "open_agreements"]

OPEN = ("sky", "ground", "background", "side", "part")
STREAM = 4_000_003  # of the world's scenes that pictures are compared with
SCENES = 48  # of the world for each caption; one in 24 scenes shows a given kind


@dataclass(frozen=True)
class Agreement:
    """The share of pairs of pictures of one caption that show the same; in the world, pairs of scenes of its kind.

    As large as the world's: all is drawn that could be. Larger: the model has favorites.
    """

    drawn: float
    world: float
    captions: int  # that leave this open


def open_agreements(
    pipeline: Draws, prompts: Sequence[Prompt], judge: Judge, settings: Request, *, captions: int, seeds: int = 6
) -> dict[str, Agreement]:
    """Draw the first `captions` prompts of one thing with `seeds` seeds each, and see in what their pictures agree.

    "side": the half of the picture where the thing stands; "part": the color of its first part, such as a roof.
    `InputError` for fewer than two seeds and where no prompt names one thing alone.
    """
    single = [p for p in prompts if len(p.facts.groups) == 1 and p.facts.groups[0].count == 1][:captions]
    if not single or seeds < 2:
        raise InputError(
            f"{len(single)} prompts name one thing alone and each is drawn with {seeds} seeds, "
            "expected are at least 1 and 2"
        )
    asked = [replace(settings, prompt=p.caption) for p in single]
    requests = [replace(r, seed=i * seeds + k) for i, r in enumerate(asked) for k in range(seeds)]
    pixels = draw_pixels(pipeline, requests)
    findings, width = look_at(judge, pixels), pixels.shape[2]
    drawn: dict[str, list[float]] = {name: [] for name in OPEN}
    world: dict[str, list[float]] = {name: [] for name in OPEN}
    for i, prompt in enumerate(single):
        kind = prompt.facts.groups[0].kind
        seen = [_found(f, kind, width) for f in findings[i * seeds : (i + 1) * seeds]]
        real = [_silent(s, i) for s in one_thing_scenes(kind, i)]
        for name in _left_open(prompt):
            ours = agreement(s[name] for s in seen if name in s)
            if ours is not None:
                drawn[name].append(ours)
                world[name].append(agreement(s[name] for s in real if name in s) or 0.0)
    return {
        name: Agreement(float(np.mean(shares)), float(np.mean(world[name])), len(shares))
        for name, shares in drawn.items()
        if shares
    }


def agreement(answers: Iterable[str]) -> float | None:
    """The share of pairs that are equal, without bias by the number of answers; None for fewer than two."""
    counts = Counter(answers)
    n = counts.total()
    return sum(c * (c - 1) for c in counts.values()) / (n * (n - 1)) if n > 1 else None


def _left_open(prompt: Prompt) -> list[str]:
    facts = prompt.facts
    (group,) = facts.groups
    names = [name for name in ("sky", "ground", "background") if getattr(facts, name) is None]
    parts = KINDS[group.kind].parts
    return [*names, "side", *(["part"] if parts and parts[0] not in group.parts else [])]


def _found(findings: Findings, kind: str, width: int) -> Mapping[str, str]:
    """What the judge sees; of the thing itself nothing where it is not there."""
    thing = next((t for t in findings.things if t.kind == kind), None)
    if thing is None:
        return findings.surroundings
    told = {**findings.surroundings, "side": _side(thing.centre[1] / width)}
    return {**told, "part": thing.parts[0]} if KINDS[kind].parts else told


def _silent(scene: Scene, number: int) -> Mapping[str, str]:
    """What is true in `scene` and a caption of it leaves open: that nothing is behind the ground is never said, so that
    silence makes it likelier."""
    (thing,) = scene.things
    _, facts = describe(scene, np.random.default_rng((STREAM, number, scene.seed)))
    told = {name: getattr(scene, name) for name in ("sky", "ground", "background") if getattr(facts, name) is None}
    return {**told, "side": _side(thing.box.centre[1]), "part": next(iter(thing.parts.values()), "")}


def _side(x: float) -> str:
    return "left" if x < 0.5 else "right"


def one_thing_scenes(kind: str, number: int) -> list[Scene]:
    """SCENES scenes of the world with one thing, of `kind`, always the same for a number."""
    found: list[Scene] = []
    trial = 0
    while len(found) < SCENES:
        scene = sample_scene(np.random.default_rng((STREAM, number, trial)), things=1, split="any")
        trial += 1
        if scene.things[0].kind == kind:
            found.append(scene)
    return found
