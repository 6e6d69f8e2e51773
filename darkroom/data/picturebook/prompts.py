"""Prompts to measure with: captions of scenes that nobody draws, and what exactly each promises. JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom.config import from_dict, to_dict
from darkroom.data.picturebook.caption import Facts, describe
from darkroom.data.picturebook.colours import COLOURS
from darkroom.data.picturebook.scene import RELATIONS, held_out_pairs, sample_scene
from darkroom.data.picturebook.things import KINDS
from darkroom.errors import InputError

__all__ = ["Prompt", "read_prompts", "sample_prompts", "write_prompts"]

# Training scenes are drawn from (seed, number); prompts from (seed, this, number), which no training scene shares.
STREAM = 1_000_003


@dataclass(frozen=True)
class Prompt:
    caption: str
    facts: Facts
    held_out: bool  # names a (kind, colour) pair that training never shows

    def __post_init__(self) -> None:
        for group in self.facts.groups:
            KINDS.name(group.kind)
            if group.colour is not None and group.colour not in COLOURS:
                raise InputError(f"unknown colour {group.colour!r}; known are: {', '.join(COLOURS)}")
        for relation in self.facts.relations:
            if relation.relation not in RELATIONS:
                raise InputError(f"unknown relation {relation.relation!r}; known are: {', '.join(RELATIONS)}")
            if not {relation.subject, relation.object} <= set(range(len(self.facts.groups))):
                raise InputError(f"relation {relation.relation!r} names a thing that the prompt lacks")


def sample_prompts(seed: int, count: int, things: tuple[int, int]) -> list[Prompt]:
    """`count` prompts of scenes with things[0] … things[1] things; one in five from the held-out pairs."""
    if count < 1:
        raise InputError(f"the number of prompts is {count}, wanted is at least 1")
    if not 1 <= things[0] <= things[1] <= 4:
        raise InputError(f"the number of things is {things[0]}-{things[1]}, wanted is within 1-4")
    held_out = held_out_pairs()
    prompts = []
    for i in range(count):
        rng = np.random.default_rng((seed, STREAM, i))
        n = int(rng.integers(things[0], things[1] + 1))
        scene = sample_scene(rng, things=n, split="heldout" if i % 5 == 4 else "train")
        caption, facts = describe(scene, rng)
        prompts.append(Prompt(caption, facts, any((t.kind, t.colour) in held_out for t in scene.things)))
    return prompts


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> None:
    """One JSON object a line, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_text("".join(json.dumps(to_dict(p)) + "\n" for p in prompts), encoding="utf-8")
        os.replace(fresh, path)
    except OSError as error:
        raise InputError(f"prompts cannot be written to {path}: {error.strerror}") from None


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a file; `InputError` names the line that is wrong, or says that there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompts cannot be read from {path}: {error}") from None
    prompts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path} line {number} is not JSON: {error}") from None
        prompts.append(from_dict(Prompt, data, f"{path} line {number}"))
    if not prompts:
        raise InputError(f"{path} holds no prompts; `darkroom data prompts` draws some")
    return prompts
