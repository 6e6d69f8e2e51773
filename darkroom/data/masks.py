"""Masks for inpainting, made on the fly: strokes and boxes, as LaMa's (arXiv:2109.07161) and Stable Diffusion's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from darkroom.errors import require
from darkroom.types import Size

__all__ = ["MaskConfig", "draw_mask"]

MARGIN = 0.02  # of boxes to the edge


@dataclass(frozen=True)
class MaskConfig:
    """Lengths are shares of the picture's shorter side; the defaults are those of LaMa's training at 512 pixels.

    "lama": strokes or boxes, half and half. "brush": strokes alone. "box": boxes alone, half of them rounded.
    """

    kind: Literal["lama", "brush", "box"] = "lama"
    strokes: tuple[int, int] = (1, 5)
    stroke_length: tuple[float, float] = (0.02, 0.88)
    stroke_width: tuple[float, float] = (0.01, 0.49)
    boxes: tuple[int, int] = (1, 4)
    box_side: tuple[float, float] = (0.06, 0.59)
    full: float = 0.0  # share of pictures that are masked whole

    def __post_init__(self) -> None:
        for name in ("strokes", "boxes"):
            low, high = getattr(self, name)
            require(1 <= low <= high <= 100, name, [low, high], "two rising numbers from 1 to 100")
        for name in ("stroke_length", "stroke_width", "box_side"):
            low, high = getattr(self, name)
            require(0 < low <= high <= 1, name, [low, high], "two rising shares of the shorter side")
        require(0 <= self.full <= 1, "full", self.full, "a share from 0 to 1")


def draw_mask(size: Size, config: MaskConfig, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W), 1 = repaint."""
    if config.full and rng.random() < config.full:
        return np.ones((size.height, size.width), np.uint8)
    image = Image.new("1", (size.width, size.height))
    draw, side = ImageDraw.Draw(image), min(size.height, size.width)
    brush = config.kind == "brush" or (config.kind == "lama" and rng.random() < 0.5)
    if brush:
        for _ in range(rng.integers(config.strokes[0], config.strokes[1], endpoint=True)):
            _stroke(draw, size, side, config, rng)
    else:
        for _ in range(rng.integers(config.boxes[0], config.boxes[1], endpoint=True)):
            _box(draw, size, side, config, rng)
    return np.asarray(image, np.uint8)


def _stroke(draw: ImageDraw.ImageDraw, size: Size, side: int, config: MaskConfig, rng: np.random.Generator) -> None:
    """A line with round ends and bends that turns at random, as long as one to five of its pieces."""
    x, y = rng.random() * size.width, rng.random() * size.height
    width = max(1, round(side * rng.uniform(*config.stroke_width)))
    points = [(x, y)]
    for _ in range(rng.integers(1, 5, endpoint=True)):
        angle, length = rng.uniform(0, 2 * math.pi), side * rng.uniform(*config.stroke_length)
        x = min(max(x + length * math.cos(angle), 0.0), size.width)
        y = min(max(y + length * math.sin(angle), 0.0), size.height)
        points.append((x, y))
    draw.line(points, 1, width)
    for px, py in points:
        draw.ellipse((px - width / 2, py - width / 2, px + width / 2, py + width / 2), 1)


def _box(draw: ImageDraw.ImageDraw, size: Size, side: int, config: MaskConfig, rng: np.random.Generator) -> None:
    width, height = (max(1.0, side * rng.uniform(*config.box_side)) for _ in range(2))
    margin = MARGIN * side
    left = margin + rng.random() * max(0.0, size.width - 2 * margin - width)
    top = margin + rng.random() * max(0.0, size.height - 2 * margin - height)
    radius = rng.uniform(0, 0.12) * side if rng.random() < 0.5 else 0.0
    draw.rounded_rectangle((left, top, left + width - 1, top + height - 1), radius, 1)
