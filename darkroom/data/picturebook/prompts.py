"""Prompts to measure with: captions of scenes that nobody draws, and what exactly each promises. JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from rich.progress import track

from darkroom.config import from_dict, to_dict
from darkroom.data.picturebook.backdrop import BACKGROUNDS, GROUNDS, SKIES
from darkroom.data.picturebook.caption import Facts, Group, describe
from darkroom.data.picturebook.colours import COLOURS
from darkroom.data.picturebook.relations import RELATIONS
from darkroom.data.picturebook.scene import held_out_pairs, sample_scene
from darkroom.data.picturebook.things import KINDS
from darkroom.errors import InputError
from darkroom.input_file import read_text
from darkroom.json_file import parse_json
from darkroom.registry import nearest

__all__ = ["Prompt", "read_prompts", "sample_prompts", "write_prompts"]

# Training scenes are drawn from (seed, number); prompts from (seed, this, number), which no training scene shares.
STREAM = 1_000_003


@dataclass(frozen=True)
class Prompt:
    caption: str
    facts: Facts
    held_out: bool  # names a (kind, colour) pair that training never shows

    def __post_init__(self) -> None:
        if not self.caption.strip():
            raise InputError("the caption is empty, expected is a sentence")
        if not self.facts.groups:
            raise InputError("the facts name no things, expected is at least one group")
        for group in self.facts.groups:
            _check_group(group)
        for relation in self.facts.relations:
            _check("relation", relation.relation, RELATIONS)
            named = {relation.subject, relation.object}
            if len(named) < 2 or not named <= set(range(len(self.facts.groups))):
                raise InputError(
                    f"relation {relation.relation!r} is between groups {relation.subject} and {relation.object}, "
                    f"expected are two of 0 to {len(self.facts.groups) - 1}"
                )
        for sort, known in (("sky", SKIES), ("ground", GROUNDS), ("background", BACKGROUNDS)):
            value = getattr(self.facts, sort)
            if value is not None:
                _check(sort, value, known)


def _check_group(group: Group) -> None:
    _check("kind", group.kind, KINDS)
    if group.colour is not None:
        _check("colour", group.colour, COLOURS)
    if group.count < 1:
        raise InputError(f"the count of {group.kind} is {group.count}, expected is at least 1")
    for part, colour in group.parts.items():
        if not KINDS[group.kind].parts:
            raise InputError(f"unknown part {part!r}; a {group.kind} has no parts with a colour of their own")
        _check("part", part, KINDS[group.kind].parts)
        _check("colour", colour, COLOURS)


def _check(sort: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        raise InputError(f"unknown {sort} {name!r}; known are: {', '.join(nearest(name, known))}")


def sample_prompts(seed: int, count: int, things: tuple[int, int]) -> list[Prompt]:
    """`count` prompts of scenes with things[0] … things[1] things; one in five from the held-out pairs."""
    if count < 1:
        raise InputError(f"the number of prompts is {count}, expected is at least 1")
    if seed < 0:
        raise InputError(f"the seed is {seed}, expected is 0 or more")
    if not 1 <= things[0] <= things[1] <= 4:
        raise InputError(f"the number of things is {things[0]}-{things[1]}, expected is within 1-4")
    held_out = held_out_pairs()
    prompts = []
    for i in track(range(count), "drawing", transient=True, disable=count < 5000):
        rng = np.random.default_rng((seed, STREAM, i))
        n = int(rng.integers(things[0], things[1] + 1))
        scene = sample_scene(rng, things=n, split="heldout" if i % 5 == 4 else "train")
        caption, facts = describe(scene, rng)
        prompts.append(Prompt(caption, facts, any((t.kind, t.colour) in held_out for t in scene.things)))
    return prompts


def write_prompts(file: BinaryIO, prompts: Iterable[Prompt]) -> None:
    """One JSON object a line."""
    file.writelines(json.dumps(to_dict(p)).encode() + b"\n" for p in prompts)


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a file; `InputError` names the line that is wrong, or says that there is none."""
    prompts = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        prompts.append(from_dict(Prompt, parse_json(line, where), where))
    if not prompts:
        raise InputError(f"{path} holds no prompts; `darkroom data prompts` draws some")
    return prompts
