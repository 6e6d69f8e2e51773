"""Sentences about scenes, and what exactly a sentence promises."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from darkroom.data.picturebook.colours import COLOURS
from darkroom.data.picturebook.relations import OPPOSITE, box_relations, relations
from darkroom.data.picturebook.scene import Scene, Thing
from darkroom.data.picturebook.things import KINDS
from darkroom.errors import require

__all__ = ["USUAL", "Chances", "Facts", "Group", "Relation", "describe", "vocabulary"]

NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four"}
SKY = {
    "day": ("in the daytime", "by day", "on a bright day"),
    "sunset": ("at sunset", "in the evening"),
    "night": ("at night",),
}
GROUND = {
    "meadow": ("on a meadow", "on the grass", "on a green meadow"),
    "beach": ("on a beach", "on the sand", "at the beach"),
    "snow": ("in the snow", "on snowy ground"),
    "sea": ("on the sea", "at sea"),
}
BACKGROUND = {
    "hills": ("with hills behind", "near the hills"),
    "mountains": ("with mountains behind", "near the mountains"),
}
PHRASES = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
    "in front of": ("in front of",),
    "behind": ("behind",),
}


@dataclass(frozen=True)
class Group:
    """So many things of one kind and colour; `colour` None when the sentence does not say it."""

    kind: str
    colour: str | None
    count: int = 1
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Relation:
    """groups[subject] stands in this relation to groups[object]."""

    subject: int
    relation: str
    object: int


@dataclass(frozen=True)
class Facts:
    """What a caption says, no more and no less."""

    groups: tuple[Group, ...]
    relations: tuple[Relation, ...] = ()
    sky: str | None = None
    ground: str | None = None
    background: str | None = None
    sign: str | None = None


@dataclass(frozen=True)
class Chances:
    """How often a caption says what can be said; 0 … 1."""

    relation: float = 0.65
    ground: float = 0.6
    sky: float = 0.6
    background: float = 0.5
    part: float = 0.45

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")


USUAL = Chances()


def describe(scene: Scene, rng: np.random.Generator, chances: Chances = USUAL) -> tuple[str, Facts]:
    """A caption of `scene` in varied words, and its facts. Every thing is named with its colour."""
    members: dict[tuple[str, str], list[Thing]] = {}
    for thing in scene.things:
        members.setdefault((thing.kind, thing.colour), []).append(thing)
    keys = [list(members)[i] for i in rng.permutation(len(members))]
    said: list[Relation] = []
    singles = [i for i, k in enumerate(keys) if len(members[k]) == 1]
    if len(singles) >= 2 and rng.random() < chances.relation:
        a, b = members[keys[singles[0]]][0], members[keys[singles[1]]][0]
        first, second = (a, b) if scene.things.index(a) < scene.things.index(b) else (b, a)
        # Drawn from what the boxes say, dropped if it is not so: a true caption does not change with the false ones.
        held = box_relations(first, second)
        relation = str(rng.choice(held)) if held else ""
        if relation in relations(first, second):
            said.append(Relation(0, relation if first is a else OPPOSITE[relation], 1))
            rest = [i for i in range(len(keys)) if i not in singles[:2]]
            keys = [keys[i] for i in (*singles[:2], *rest)]
    groups, phrases = [], []
    for key in keys:
        group, phrase = _phrase(members[key], rng, chances.part)
        groups.append(group)
        phrases.append(phrase)
    if said:
        head = f"{phrases[0]} {rng.choice(PHRASES[said[0].relation])} {phrases[1]}"
        text = _join([head, *phrases[2:]])
    else:
        text = _join(phrases)
    extras, sky, ground, background = [], None, None, None
    if rng.random() < chances.ground:
        ground = scene.ground
        extras.append(str(rng.choice(GROUND[ground])))
    if rng.random() < chances.sky:
        sky = scene.sky
        extras.append(str(rng.choice(SKY[sky])))
    if scene.background != "none" and rng.random() < chances.background:
        background = scene.background
        extras.append(str(rng.choice(BACKGROUND[background])))
    sign = scene.sign.word if scene.sign is not None else None
    if sign is not None:
        text += f' and a sign that says "{sign}"'
    if extras:
        text += (", " if rng.random() < 0.5 else " ") + " ".join(extras)
    return text, Facts(tuple(groups), tuple(said), sky, ground, background, sign)


def _phrase(things: list[Thing], rng: np.random.Generator, part: float) -> tuple[Group, str]:
    thing, count = things[0], len(things)
    kind = KINDS[thing.kind]
    plain_snowman = thing.kind == "snowman" and thing.colour == "white" and rng.random() < 0.5
    colour = None if plain_snowman else thing.colour
    words = [thing.colour] if colour else []
    if count == 1 and thing.size != "medium" and rng.random() < 0.3:
        words.insert(0, thing.size)
    words.append(kind.name if count == 1 else kind.plural)
    article = NUMBERS[count]
    if count == 1 and words[0][0] in "aeiou":
        article = "an"
    text = f"{article} {' '.join(words)}"
    parts = {p: c for p, c in thing.parts.items() if rng.random() < part}
    if parts:
        text += " with " + " and ".join(f"a{'n' if c[0] in 'aeiou' else ''} {c} {p}" for p, c in parts.items())
    if count == 1 and kind.faces and rng.random() < 0.12:
        text += f" facing {thing.facing}"
    return Group(thing.kind, colour, count, parts), text


def _join(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can hold, sorted; the words of signs are spelled letter by letter."""
    words = {
        "a",
        "an",
        "and",
        "with",
        "facing",
        "left",
        "right",
        "small",
        "large",
        "sign",
        "that",
        "says",
        *NUMBERS.values(),
    }
    words |= set(COLOURS) | set("abcdefghijklmnopqrstuvwxyz")
    for kind in KINDS.values():
        words |= {kind.name, kind.plural, *kind.parts}
    for table in (SKY, GROUND, BACKGROUND, PHRASES):
        for phrases in table.values():
            for phrase in phrases:
                words |= set(phrase.split())
    return tuple(sorted(words))
