"""Does a model compose what its prompt says? After GenEval (Ghosh et al. 2023), on the picture-book world.

A task is a line of GenEval's `evaluation_metadata.jsonl`: what must be in the picture, how often, in which color,
where. Tasks of the world come with a scene that fulfils them, so that the judge's own accuracy bounds every score.
GenEval's own tasks, of things that the judge does not know, are drawn into its folders for its detector to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.data.picturebook import COLOURS, KINDS, Scene, sample_scene
from darkroom.data.picturebook.caption import NUMBERS
from darkroom.data.picturebook.relations import relations
from darkroom.data.picturebook.scene import WORDS
from darkroom.errors import InputError, cause, require
from darkroom.input_file import read_text
from darkroom.json_file import parse_table
from darkroom.models.judge import Detection

__all__ = ["TAGS", "Group", "Task", "read_tasks", "relative_position", "verdict", "world_tasks"]

STREAM = 6_000_003  # of the scenes that tasks are taken from
MARGIN = 0.1  # of both things' sides, by which centers must differ (GenEval's position threshold)
SIDES = ("left of", "right of", "above", "below")
OF_ONE = ("single_object", "colors", "parts", "signs")  # tasks with one thing
TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr", "parts", "signs")


@dataclass(frozen=True)
class Group:
    """At least `count` things of a class, all in `color`, their parts in these colors, each standing in relation
    `position` = (relation, number of an earlier group) to all of that group."""

    name: str
    count: int = 1
    color: str | None = None
    position: tuple[str, int] | None = None
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """`exclude`: fewer things than so many of a class may be there. `sign`: the word on a sign. Without groups nothing
    can be judged."""

    tag: str
    prompt: str
    include: tuple[Group, ...] = ()
    exclude: tuple[Group, ...] = ()
    sign: str | None = None

    def metadata(self) -> dict[str, Any]:
        """As GenEval writes it; colors of parts and words of signs are additions of ours."""
        found: dict[str, Any] = {"tag": self.tag, "include": [_line(g) for g in self.include]}
        if self.exclude:
            found["exclude"] = [_line(g) for g in self.exclude]
        if self.sign is not None:
            found["sign"] = self.sign
        return {**found, "prompt": self.prompt}

    @property
    def can_be_judged(self) -> bool:
        """Whether the judge of the picture-book world knows everything that it asks for."""
        known = all(g.name in KINDS and (g.color is None or g.color in COLOURS) for g in (*self.include, *self.exclude))
        return bool(self.include) and known and (self.sign is None or self.sign in WORDS)


def _line(group: Group) -> dict[str, Any]:
    found: dict[str, Any] = {"class": group.name, "count": group.count}
    if group.color is not None:
        found["color"] = group.color
    if group.position is not None:
        found["position"] = list(group.position)
    if group.parts:
        found["parts"] = dict(group.parts)
    return found


def read_tasks(path: Path) -> list[Task]:
    """GenEval's metadata (JSON lines), or prompts one a line as T2I-CompBench has them, whose tag is the file's name.

    `InputError` names the line that is wrong.
    """
    lines = read_text(path).splitlines()
    if path.suffix == ".txt":
        tasks = [Task(path.stem, line.strip()) for line in lines if line.strip()]
    else:
        tasks = [_task(line, f"{path} line {n}") for n, line in enumerate(lines, start=1) if line.strip()]
    if not tasks:
        raise InputError(f"{path} holds no prompts")
    return tasks


def _task(line: str, where: str) -> Task:
    found = parse_table(line, where)
    try:
        include, exclude = (tuple(_group(g) for g in found.get(k, [])) for k in ("include", "exclude"))
        sign = found.get("sign")
        task = Task(str(found["tag"]), str(found["prompt"]), include, exclude, None if sign is None else str(sign))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{where} is no task of GenEval (tag, include, prompt): {cause(error)}") from None
    for i, group in enumerate(task.include):
        if group.position is not None and not (group.position[0] in SIDES and 0 <= group.position[1] < i):
            raise InputError(f"{where}: position {group.position} is none of {', '.join(SIDES)} of an earlier group")
    return task


def _group(line: Mapping[str, Any]) -> Group:
    position = line.get("position")
    parts = {str(part): str(color) for part, color in line.get("parts", {}).items()}
    return Group(
        str(line["class"]),
        int(line.get("count", 1)),
        line.get("color"),
        None if position is None else (str(position[0]), int(position[1])),
        parts,
    )


def world_tasks(count: int, seed: int = 0) -> list[tuple[Task, Scene]]:
    """`count` tasks of every tag, each with a scene that fulfils it. Prompts always say colors, as training did."""
    require(count >= 1, "the number of tasks of a tag", count, "at least 1")
    found = []
    for number, tag in enumerate(TAGS):
        rng, made = np.random.default_rng((seed, STREAM, number)), 0
        while made < count:
            n = {"single_object": 1, "colors": 1, "parts": 1, "signs": 1, "counting": int(rng.integers(2, 5))}.get(
                tag, 2
            )
            scene = sample_scene(rng, things=n, split="any")
            if (task := _from_scene(tag, scene)) is not None:
                found.append((task, scene))
                made += 1
    return found


def _from_scene(tag: str, scene: Scene) -> Task | None:
    """The task of this tag that `scene` fulfils; None if it is no scene for it."""
    first, last = scene.things[0], scene.things[-1]
    a, b = _phrase(first.colour, first.kind), _phrase(last.colour, last.kind)
    match tag:
        case "single_object":
            return Task(tag, a, (Group(first.kind),))
        case "colors":
            return Task(tag, a, (Group(first.kind, color=first.colour),))
        case "parts" if first.parts:
            said = " and ".join(f"{_article(c)} {c} {part}" for part, c in first.parts.items())
            return Task(tag, f"{a} with {said}", (Group(first.kind, color=first.colour, parts=first.parts),))
        case "signs" if scene.sign is not None:
            group = Group(first.kind, color=first.colour)
            return Task(tag, f'{a} and a sign that says "{scene.sign.word}"', (group,), sign=scene.sign.word)
        case "counting" if len({(t.kind, t.colour) for t in scene.things}) == 1:
            n = len(scene.things)
            prompt = f"{NUMBERS[n]} {first.colour} {KINDS[first.kind].plural}"
            return Task(tag, prompt, (Group(first.kind, n),), (Group(first.kind, n + 1),))
        case "two_object" if first.kind != last.kind:
            return Task(tag, f"{a} and {b}", (Group(first.kind), Group(last.kind)))
        case "color_attr" if first.kind != last.kind and first.colour != last.colour:
            groups = (Group(first.kind, color=first.colour), Group(last.kind, color=last.colour))
            return Task(tag, f"{a} and {b}", groups)
        case "position" if first.kind != last.kind:
            held = [r for r in relations(first, last) if r in SIDES]
            if held:
                return Task(tag, f"{a} {held[0]} {b}", (Group(last.kind), Group(first.kind, position=(held[0], 0))))
    return None


def _phrase(color: str, kind: str) -> str:
    return f"{_article(color)} {color} {KINDS[kind].name}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def verdict(task: Task, found: Iterable[Detection], sign: str | None = None) -> tuple[bool, str]:
    """Whether a picture with these things, surest first, and with the word `sign` on a sign fulfils `task`, and if
    not, why: GenEval's rules."""
    have: dict[str, list[Detection]] = {}
    for detection in found:
        have.setdefault(detection.kind, []).append(detection)
    reasons: list[str] = []
    matched: list[Sequence[Detection] | None] = []
    for group in task.include:
        things = have.get(group.name, [])[: group.count]
        reason = _misses(group, things, matched)
        reasons += [reason] if reason else []
        matched.append(None if reason else things)
    for group in task.exclude:
        if (n := len(have.get(group.name, []))) >= group.count:
            reasons.append(f"expected {group.name}<{group.count}, found {n}")
    if task.sign is not None and sign != task.sign:
        reasons.append(f"expected a sign that says {task.sign}, found {sign or 'none that can be read'}")
    return not reasons, "\n".join(reasons)


def _misses(group: Group, things: Sequence[Detection], matched: Sequence[Sequence[Detection] | None]) -> str:
    """What is wrong with the things found for a group; nothing: the empty text."""
    if len(things) < group.count:
        return f"expected {group.name}>={group.count}, found {len(things)}"
    if group.color is not None and (wrong := [t.colour for t in things if t.colour != group.color]):
        return f"expected {group.color} {group.name}, found {', '.join(wrong)}"
    for part, color in group.parts.items():
        slot = KINDS[group.name].parts.index(part)
        if wrong := [t.parts[slot] for t in things if t.parts[slot] != color]:
            return f"expected {color} {part} of {group.name}, found {', '.join(wrong)}"
    if group.position is not None:
        relation, target = group.position
        others = matched[target]
        if others is None:
            return f"no target for {group.name} to be {relation}"
        for thing in things:
            for other in others:
                if relation not in (held := relative_position(thing.box, other.box)):
                    return f"expected {group.name} {relation} target, found {' and '.join(sorted(held))} target"
    return ""


def relative_position(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> set[str]:
    """How the box a = (top, left, bottom, right) stands to b: beyond a margin, within 60° of the axis."""
    offset = np.array([(a[1] + a[3] - b[1] - b[3]) / 2, (a[0] + a[2] - b[0] - b[2]) / 2])  # x, y
    sides = np.array([a[3] - a[1] + b[3] - b[1], a[2] - a[0] + b[2] - b[0]])
    beyond = np.maximum(np.abs(offset) - MARGIN * sides, 0) * np.sign(offset)
    if np.abs(beyond).max() < 1e-3:
        return set()
    dx, dy = beyond / np.linalg.norm(offset)
    held = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {name for name, holds in held.items() if holds}
