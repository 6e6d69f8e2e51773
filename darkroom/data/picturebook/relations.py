"""How two things stand to each other: by their boxes, and by whether one really hides the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import skia

from darkroom.data.picturebook.render import draw_thing
from darkroom.data.picturebook.scene import Thing

__all__ = ["OPPOSITE", "RELATIONS", "box_relations", "hidden_share", "part_silhouette", "relations", "silhouette"]

RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind")
OPPOSITE = {"left of": "right of", "above": "below", "in front of": "behind"}
OPPOSITE |= {b: a for a, b in OPPOSITE.items()}

LEAST_HIDDEN = 0.01  # of a thing's own pixels, for it to be behind something
SIDE = 128  # pixels; scenes of other shapes are squeezed into a square, which leaves shares as they are


def relations(a: Thing, b: Thing) -> list[str]:
    """The relations of `RELATIONS` that hold between `a` and `b` with a clear margin. `b` is painted after `a`."""
    # Boxes that overlap are not enough for "behind": in a third of such pairs the outlines do not meet.
    return [r for r in box_relations(a, b) if r != "behind" or hidden_share(a, b) >= LEAST_HIDDEN]


def box_relations(a: Thing, b: Thing) -> list[str]:
    """As `relations`, by the boxes alone: "behind" may be said of a thing that nothing hides."""
    (ay, ax), (by, bx) = a.box.centre, b.box.centre
    found = []
    wide = 0.5 * min(a.box.right - a.box.left, b.box.right - b.box.left)
    if abs(ax - bx) > max(0.12, wide) and abs(ax - bx) > 0.8 * abs(ay - by):
        found.append("left of" if ax < bx else "right of")
    if a.box.bottom <= b.box.top + 0.04 or b.box.bottom <= a.box.top + 0.04:
        if abs(ay - by) > abs(ax - bx):
            found.append("above" if ay < by else "below")
    elif a.box.overlap(b.box) > 0.1 * min(a.box.area, b.box.area) and b.box.bottom > a.box.bottom + 0.02:
        found.append("behind")
    return found


def hidden_share(a: Thing, b: Thing) -> float:
    """How many of the pixels of `a` are covered by `b`, painted after it; 0 … 1."""
    ours, theirs = silhouette(a, SIDE, SIDE), silhouette(b, SIDE, SIDE)
    return float((ours & theirs).sum() / max(1, ours.sum()))


def silhouette(thing: Thing, width: int, height: int) -> np.ndarray:
    """bool (height, width): the pixels that `thing` covers for the most part, were it alone in the picture."""
    return _alone(thing, width, height)[..., 3] > 127


def part_silhouette(thing: Thing, part: str, width: int, height: int) -> np.ndarray:
    """bool (height, width): the pixels that turn from white to black for the most part when `part` of `thing` does."""
    white, black = (
        _alone(replace(thing, parts={**thing.parts, part: colour}), width, height) for colour in ("white", "black")
    )
    return (white[..., :3].astype(np.int16) - black[..., :3]).mean(axis=2) > 100


def _alone(thing: Thing, width: int, height: int) -> np.ndarray:
    """uint8 (height, width, 4): `thing` on nothing."""
    surface = skia.Surface(width, height)
    draw_thing(surface.getCanvas(), thing, width, height)
    return surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)
