"""What a kind of thing is to the picture-book world, and how it is asked to draw itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import skia

__all__ = ["RGB", "Draw", "Kind", "Look"]

RGB = tuple[float, float, float]  # 0 … 1


@dataclass(frozen=True)
class Look:
    """How one instance looks: its colours and the generator for its natural variation."""

    colour: RGB
    parts: Mapping[str, RGB]  # one for every name in Kind.parts
    outline: float  # stroke width in pixels
    rng: np.random.Generator


# draw(canvas, width, height, look): fill the box (0, 0)–(width, height) in pixels, y down, facing right.
Draw = Callable[[skia.Canvas, float, float, Look], None]


@dataclass(frozen=True)
class Kind:
    """One kind of thing: where it lives, how big it is, which parts have colours of their own, how it is drawn."""

    name: str
    plural: str
    home: Literal["ground", "sky", "water"]
    aspect: tuple[float, float]  # range of width / height
    height: tuple[float, float]  # range of height as a share of the picture's short side, at size "medium"
    parts: tuple[str, ...]  # parts with a colour of their own, e.g. ("roof",)
    faces: bool  # whether left and right differ
    draw: Draw
