"""Umbrella, snowman, hat, star."""

from __future__ import annotations

import math

import skia

from darkroom.data.picturebook.brush import Brush
from darkroom.data.picturebook.colours import shade
from darkroom.data.picturebook.kind import Kind, Look

__all__ = ["OBJECTS"]

DARK = (0.13, 0.10, 0.11)


def _umbrella(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    b.line([(0.5, 0.06), (0.5, 0.86), (0.52, 0.98), (0.62, 0.98), (0.66, 0.88)], 0.045, (0.42, 0.28, 0.2), edge=True)
    n = 4
    hem = [(1.0 - k / (2 * n), 0.52 - (0.09 if k % 2 else 0.0)) for k in range(2 * n + 1)]
    path = skia.Path()
    path.moveTo(0, 0.52 * height)
    path.cubicTo(0.02 * width, -0.08 * height, 0.98 * width, -0.08 * height, width, 0.52 * height)
    for (x0, _), (x1, _) in zip(hem[0::2], hem[2::2]):
        path.quadTo((x0 + x1) / 2 * width, 0.4 * height, x1 * width, 0.52 * height)
    path.close()
    b.paint(path, c)
    for x in (0.25, 0.5, 0.75):
        b.line([(0.5, 0.08), (0.5 + (x - 0.5) * 1.05, 0.25), (x, 0.5)], 0.014, shade(c, -0.35))
    if b.chance(0.5):
        b.spots([(0.2, 0.36), (0.4, 0.28), (0.62, 0.3), (0.82, 0.38)], 0.035, shade(c, 0.55))


def _snowman(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    for s in (-1, 1):
        b.line([(0.5 + s * 0.28, 0.56), (0.5 + s * 0.48, b.vary(0.46, 0.06))], 0.035, (0.4, 0.27, 0.17))
    b.oval(0.5, 0.8, 0.36, 0.2, c)
    b.oval(0.5, 0.54, 0.28, 0.16, c)
    b.oval(0.5, 0.3, 0.23, 0.14, c)
    hat = look.parts["hat"]
    b.rect(0.24, 0.17, 0.52, 0.045, hat, round=0.03)
    b.rect(0.33, b.vary(0.02, 0.01), 0.34, 0.165, hat, round=0.03)
    scarf = look.parts["scarf"]
    b.blob([(0.24, 0.38), (0.5, 0.44), (0.76, 0.38), (0.78, 0.45), (0.5, 0.52), (0.22, 0.45)], scarf)
    side = 1 if b.chance(0.5) else -1
    b.poly(
        [(0.5 + side * 0.1, 0.44), (0.5 + side * 0.22, 0.43), (0.5 + side * 0.26, 0.62), (0.5 + side * 0.12, 0.63)],
        scarf,
    )
    dots = DARK if sum(c) > 0.8 else (0.95, 0.95, 0.93)
    for s in (-1, 1):
        b.disc(0.5 + s * 0.09, 0.27, 0.03, dots)
    b.poly([(0.49, 0.29), (0.49, 0.33), (0.68, 0.325)], (0.98, 0.55, 0.12))
    for y in (0.57, 0.72, 0.8):
        b.disc(0.5, y, 0.03, dots)


def _hat(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    top = b.vary(0.08, 0.04)
    b.oval(0.5, 0.82, 0.5, 0.16, shade(c, -0.08))
    b.blob(
        [
            (0.2, 0.86),
            (0.2, top + 0.1),
            (0.34, top - 0.08),
            (0.5, top + 0.08),
            (0.66, top - 0.08),
            (0.8, top + 0.1),
            (0.8, 0.86),
            (0.5, 0.92),
        ],
        c,
    )
    band = (0.95, 0.93, 0.88) if sum(c) < 2.2 else (0.25, 0.2, 0.22)
    b.blob([(0.19, 0.62), (0.5, 0.7), (0.81, 0.62), (0.81, 0.8), (0.5, 0.88), (0.19, 0.8)], band)


def _star(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    turn, inner = b.vary(0, 0.12), b.vary(0.23, 0.02)
    points = []
    for k in range(10):
        a, r = turn - math.pi / 2 + k * math.pi / 5, (0.5 if k % 2 == 0 else inner)
        points.append((0.5 + r * math.cos(a), 0.53 + r * math.sin(a)))
    b.poly(points, c)
    for k in range(0, 10, 2):
        b.poly([points[k], points[(k + 1) % 10], (0.5, 0.53)], shade(c, -0.12), outline=False)
    if b.chance(0.5):
        for s in (-1, 1):
            b.disc(0.5 + s * 0.08, 0.49, 0.03, DARK if sum(c) > 0.8 else (0.95, 0.95, 0.95))
        b.line([(0.43, 0.58), (0.5, 0.63), (0.57, 0.58)], 0.025, DARK if sum(c) > 0.8 else (0.95, 0.95, 0.95))


OBJECTS = (
    Kind("umbrella", "umbrellas", "ground", (0.92, 1.08), (0.36, 0.46), (), False, _umbrella),
    Kind("snowman", "snowmen", "ground", (0.6, 0.7), (0.46, 0.56), ("hat", "scarf"), False, _snowman),
    Kind("hat", "hats", "ground", (1.15, 1.4), (0.24, 0.31), (), False, _hat),
    Kind("star", "stars", "sky", (0.95, 1.05), (0.28, 0.36), (), False, _star),
)
