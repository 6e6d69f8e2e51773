"""Scenes: what is in a picture, as data, and how scenes are drawn by lot."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from darkroom.data.picturebook.backdrop import BACKGROUNDS, GROUNDS, SKIES, horizon
from darkroom.data.picturebook.colours import COLOURS
from darkroom.data.picturebook.kind import Kind
from darkroom.data.picturebook.things import KINDS
from darkroom.errors import InputError

__all__ = ["WORDS", "Box", "Scene", "Sign", "Split", "Thing", "held_out_pairs", "sample_scene", "sign_boxes"]

Split = Literal["train", "heldout", "any"]
SIZES = {"small": 0.78, "medium": 1.0, "large": 1.2}
COUNT_LAW = (0.35, 0.40, 0.15, 0.10)  # one, two, three, four things


@dataclass(frozen=True)
class Box:
    """In shares of the picture's height and width."""

    top: float
    left: float
    bottom: float
    right: float

    @property
    def centre(self) -> tuple[float, float]:  # y, x
        return (self.top + self.bottom) / 2, (self.left + self.right) / 2

    @property
    def area(self) -> float:
        return max(0.0, self.bottom - self.top) * max(0.0, self.right - self.left)

    def overlap(self, other: Box) -> float:
        """Area in common."""
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        width = min(self.right, other.right) - max(self.left, other.left)
        return max(0.0, height) * max(0.0, width)


@dataclass(frozen=True)
class Thing:
    kind: str
    colour: str
    parts: Mapping[str, str]  # part -> colour
    size: Literal["small", "medium", "large"]
    facing: Literal["left", "right"]
    box: Box
    seed: int  # of its natural variation

    @property
    def home(self) -> str:
        return KINDS[self.kind].home


@dataclass(frozen=True)
class Sign:
    word: str
    box: Box


@dataclass(frozen=True)
class Scene:
    """Everything about a picture but its size in pixels. `things` are in the order of painting, the farthest first."""

    sky: str
    ground: str
    background: str
    celestial: str
    clouds: int
    horizon: float
    things: tuple[Thing, ...]
    sign: Sign | None
    seed: int  # of the backdrop's variation

    def without(self, index: int) -> Scene:
        """The same scene with one thing taken away: the truth behind its mask."""
        return replace(self, things=self.things[:index] + self.things[index + 1 :])


@functools.cache
def held_out_pairs() -> frozenset[tuple[str, str]]:
    """One in twenty (kind, colour) pairs, fixed by a hash, at most one a kind and two a colour: never trained on."""
    pairs = sorted(
        ((k, c) for k in KINDS for c in COLOURS), key=lambda p: hashlib.sha256(f"{p[0]}/{p[1]}".encode()).digest()
    )
    chosen: list[tuple[str, str]] = []
    for kind, colour in pairs:
        fresh = all(kind != k for k, _ in chosen) and sum(colour == c for _, c in chosen) < 2
        if fresh and len(chosen) < len(pairs) // 20:
            chosen.append((kind, colour))
    return frozenset(chosen)


def sample_scene(
    rng: np.random.Generator,
    aspect: float = 1.0,
    *,
    things: int | None = None,
    most: int = len(COUNT_LAW),
    split: Split = "train",
) -> Scene:
    """Draw a scene for pictures of width / height = `aspect` with `things` things, or by law with 1 to `most`.

    `split`: "train" avoids the held-out pairs, "heldout" contains one, "any" does not care.
    """
    for number in (things, most):
        if number is not None and not 1 <= number <= len(COUNT_LAW):
            raise InputError(f"a scene has 1 to {len(COUNT_LAW)} things, not {number}")
    law = np.array(COUNT_LAW[:most])
    n = things or 1 + int(rng.choice(most, p=law / law.sum()))
    sky = str(rng.choice(list(SKIES), p=(0.5, 0.22, 0.28)))
    names = _pick(rng, n, split)
    ground = _ground(rng, names)
    level = horizon(rng)
    boxes = _layout(rng, [KINDS[k] for k, _ in names], [_size(rng) for _ in names], aspect, level)
    placed = []
    for (kind, colour), (size, box) in zip(names, boxes):
        placed.append(
            Thing(
                kind=kind,
                colour=colour,
                parts={p: _other(rng, colour) for p in KINDS[kind].parts},
                size=size,
                facing="left" if KINDS[kind].faces and rng.random() < 0.5 else "right",
                box=box,
                seed=int(rng.integers(2**31)),
            )
        )
    if len(set(names)) == 1 and n > 1:  # several of the same: of one look, too
        placed = [replace(t, parts=placed[0].parts) for t in placed]
    placed.sort(key=lambda t: (t.home != "sky", t.box.bottom))
    return Scene(
        sky=sky,
        ground=ground,
        background=str(rng.choice(BACKGROUNDS, p=(0.4, 0.35, 0.25))),
        celestial=_celestial(rng, sky),
        clouds=int(rng.integers(0, 4)) if sky != "night" else int(rng.integers(0, 2)),
        horizon=level,
        things=tuple(placed),
        sign=_sign(rng, placed, aspect) if n <= 2 and rng.random() < 0.06 else None,
        seed=int(rng.integers(2**31)),
    )


def _pick(rng: np.random.Generator, n: int, split: Split) -> list[tuple[str, str]]:
    """Kinds and colours. Now and then all the same, otherwise all kinds different."""
    held_out = held_out_pairs()

    def pair(kind: str) -> tuple[str, str]:
        while True:
            white = kind == "snowman" and rng.random() < 0.6
            colour = "white" if white else str(rng.choice(list(COLOURS)))
            if split != "train" or (kind, colour) not in held_out:
                return kind, colour

    kinds = [str(k) for k in rng.choice(list(KINDS), size=n, replace=False)]
    names = [pair(k) for k in kinds]
    if split == "heldout":
        order = sorted(held_out)
        names[0] = order[int(rng.integers(len(order)))]
        names[1:] = [pair(k) if k == names[0][0] else (k, c) for k, c in names[1:]]
        if len({k for k, _ in names}) < n:  # the held-out kind was among the others: draw again
            return _pick(rng, n, split)
    if n > 1 and rng.random() < 0.25:
        return [names[0]] * n
    return names


def _ground(rng: np.random.Generator, names: list[tuple[str, str]]) -> str:
    law = np.array([0.4, 0.2, 0.22, 0.18])
    if any(KINDS[k].home == "water" for k, _ in names):
        law = np.array([0.12, 0.14, 0.08, 0.66])
    elif any(KINDS[k].home == "ground" for k, _ in names):
        law = np.array([0.46, 0.24, 0.26, 0.04])
    return str(rng.choice(list(GROUNDS), p=law / law.sum()))


def _celestial(rng: np.random.Generator, sky: str) -> str:
    body = "moon" if sky == "night" else "sun"
    return body if rng.random() < 0.55 else "none"


def _other(rng: np.random.Generator, colour: str) -> str:
    return str(rng.choice([c for c in COLOURS if c != colour]))


def _size(rng: np.random.Generator) -> Literal["small", "medium", "large"]:
    return str(rng.choice(list(SIZES), p=(0.25, 0.5, 0.25)))  # type: ignore[return-value]


def _layout(
    rng: np.random.Generator,
    kinds: list[Kind],
    sizes: list[Literal["small", "medium", "large"]],
    aspect: float,
    level: float,
) -> list[tuple[Literal["small", "medium", "large"], Box]]:
    """Boxes in which everything is visible: side by side in slots, one above another, or one before another."""
    n = len(kinds)
    scale = (1.18, 0.95, 0.74, 0.62)[n - 1]
    stacked = n == 2 and _stackable(kinds) and rng.random() < 0.4
    before = n == 2 and not stacked and all(k.home != "sky" for k in kinds) and rng.random() < 0.22
    for attempt in range(60):
        shrink = 0.985**attempt
        order = rng.permutation(n)
        boxes: list[Box] = [Box(0, 0, 0, 0)] * n
        for slot, i in enumerate(order):
            kind, factor = kinds[i], SIZES[sizes[i]] * scale * shrink
            height = float(rng.uniform(*kind.height)) * factor
            width = height * float(rng.uniform(*kind.aspect))
            if aspect >= 1:
                width /= aspect
            else:
                height *= aspect
            fit = min(1.0, 0.94 * (1.25 / n if not (stacked or before) else 1.0) / width, 0.9 / height)
            height, width = height * fit, width * fit
            x = (slot + 0.5) / n + float(rng.uniform(-0.2, 0.2)) / n
            if stacked:
                x = 0.5 + float(rng.uniform(-0.2, 0.2))
            if before:
                x = 0.5 + (slot - 0.5) * float(rng.uniform(0.22, 0.42))
            x = float(np.clip(x, width / 2 + 0.02, 0.98 - width / 2))
            if kind.home == "sky" and not (stacked and slot == 1):
                low = float(rng.uniform(height + 0.02, max(height + 0.03, level + 0.08)))
            elif stacked and slot == 0:
                low = float(rng.uniform(height + 0.01, height + 0.06))
            else:
                low = (
                    float(rng.uniform(0.84, 0.98))
                    if not before
                    else (0.84, 0.96)[slot] + float(rng.uniform(-0.02, 0.02))
                )
                low = max(low, height + 0.02)
            boxes[i] = Box(low - height, x - width / 2, low, x + width / 2)
        if stacked and kinds[order[0]].home != "sky":
            continue  # only what flies is above
        if _visible(boxes, limit=0.4 if before else 0.15) and (not stacked or _apart(boxes)):
            break
    return list(zip(sizes, boxes))


def _stackable(kinds: list[Kind]) -> bool:
    return any(k.home == "sky" for k in kinds)


def _apart(boxes: list[Box]) -> bool:
    return boxes[0].bottom <= boxes[1].top + 0.03 or boxes[1].bottom <= boxes[0].top + 0.03


def _visible(boxes: list[Box], limit: float) -> bool:
    pairs = ((a, b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    return all(a.overlap(b) <= limit * min(a.area, b.area) for a, b in pairs)


def _sign(rng: np.random.Generator, things: list[Thing], aspect: float) -> Sign | None:
    """A sign in a free corner, if there is one."""
    word = str(rng.choice(WORDS))
    boxes = sign_boxes(word, aspect)
    for place in rng.permutation(len(boxes)):
        box = boxes[place]
        if all(box.overlap(t.box) <= 0.12 * box.area for t in things):
            return Sign(word, box)
    return None


def sign_boxes(word: str, aspect: float) -> tuple[Box, Box]:
    """Where a sign of this word stands, in the left corner or the right one; `aspect`: width / height."""
    height = 0.26
    width = min(0.06 * len(word) + 0.1, 0.42) / max(aspect, 0.6)
    left, right = (Box(0.97 - height, x, 0.97, x + width) for x in (0.03, 0.97 - width))
    return left, right


WORDS = (
    "hi",
    "hello",
    "open",
    "stop",
    "zoo",
    "farm",
    "park",
    "cafe",
    "home",
    "go",
    "toys",
    "jam",
    "tea",
    "fun",
    "wow",
    "no",
)
