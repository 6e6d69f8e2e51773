"""Tree, pine, palm, cactus, flower, mushroom, apple."""

from __future__ import annotations

import math

import skia

from darkroom.data.picturebook.brush import Brush
from darkroom.data.picturebook.colours import shade
from darkroom.data.picturebook.kind import Kind, Look

__all__ = ["PLANTS"]

BARK = (0.45, 0.29, 0.17)
LEAF = (0.30, 0.56, 0.24)


def _tree(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    lean = b.vary(0, 0.03)
    b.poly([(0.43, 0.55), (0.57, 0.55), (0.62, 0.99), (0.38, 0.99)], BARK)
    b.line([(0.5, 0.72), (0.64, 0.56)], 0.05, BARK)
    puffs = int(b.rng.integers(6, 9))
    for dark, grow in ((-0.12, 1.0), (0.0, 0.86)):
        for i in range(puffs):
            a = 2 * math.pi * i / puffs + b.vary(0, 0.2)
            b.disc(
                0.5 + lean + 0.24 * math.cos(a),
                0.34 + 0.18 * math.sin(a),
                b.vary(0.2, 0.025) * grow,
                shade(look.colour, dark),
                outline=dark < 0,
            )
    b.disc(0.5 + lean, 0.32, 0.27, look.colour)
    for _ in range(9):
        x, y = 0.5 + b.vary(0, 0.28), 0.33 + b.vary(0, 0.2)
        b.disc(x, y, 0.035, shade(look.colour, b.vary(0.12, 0.14)))


def _pine(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    b.rect(0.43, 0.84, 0.14, 0.15, BARK)
    tiers = int(b.rng.integers(3, 5))
    for i in reversed(range(tiers)):
        top = 0.01 + i * 0.8 / (tiers + 0.6)
        low = top + 1.35 * 0.8 / tiers
        low = min(low, 0.88)
        half = 0.2 + 0.29 * (i + 1) / tiers
        n = 7
        hem = [(0.5 + half * (1 - 2 * k / n), low - (0.03 if k % 2 else 0.0)) for k in range(n + 1)]
        b.poly([(0.5, top), *hem], shade(look.colour, -0.05 * (tiers - i)))


def _palm(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    bend = b.vary(0.1, 0.06) * (1 if b.chance(0.5) else -1)
    top = (0.5 + bend, 0.32)
    b.line(
        [(0.5 - bend, 0.97), (0.5 - bend * 0.6, 0.7), (0.5 + bend * 0.5, 0.5), top], 0.1, (0.62, 0.44, 0.26), edge=True
    )
    for i in range(7):
        a = math.pi * (1.08 + 0.84 * i / 6) + b.vary(0, 0.08)
        reach, drop = b.vary(0.44, 0.03), 0.2 + 0.16 * abs(i - 3) / 3
        mx, my = top[0] + reach * 0.6 * math.cos(a), top[1] + 0.34 * math.sin(a)
        ex, ey = top[0] + reach * math.cos(a), min(my + drop, 0.62)
        b.blob([top, (mx, my - 0.05), (ex, ey), (mx, my + 0.1), top], shade(look.colour, 0.08 * (i % 2)))
    for dx in (-0.05, 0.06):
        b.disc(top[0] + dx, top[1] + 0.05, 0.05, (0.40, 0.25, 0.13), outline=True)


def _cactus(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    left, right = b.vary(0.55, 0.07), b.vary(0.45, 0.07)
    b.line([(0.5, left), (0.2, left), (0.16, left - 0.02), (0.16, left - 0.24)], 0.2, look.colour, edge=True)
    b.line(
        [(0.5, right + 0.15), (0.8, right + 0.15), (0.84, right + 0.13), (0.84, right - 0.12)],
        0.2,
        look.colour,
        edge=True,
    )
    b.rect(0.34, 0.06, 0.32, 0.93, look.colour, round=0.16)
    for x in (0.42, 0.5, 0.58):
        b.line([(x, 0.14), (x, 0.95)], 0.014, shade(look.colour, -0.22))
    if b.chance(0.6):
        b.disc(0.5, 0.06, 0.09, (0.97, 0.62, 0.74) if look.colour[0] < 0.9 else (0.98, 0.84, 0.2), outline=True)


def _flower(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    x = b.vary(0.5, 0.04)
    b.line([(0.5, 0.98), (b.vary(0.5, 0.06), 0.7), (x, 0.3)], 0.06, LEAF, edge=True)
    b.blob([(0.5, 0.86), (0.22, 0.66), (0.1, 0.72), (0.3, 0.9)], LEAF)
    b.blob([(0.5, 0.8), (0.76, 0.6), (0.9, 0.66), (0.7, 0.84)], LEAF)
    petals, r = int(b.rng.integers(5, 8)), 0.27
    turn = b.vary(0, 0.4)
    for i in range(petals):
        a = turn + 2 * math.pi * i / petals
        b.disc(
            x + r * math.cos(a) * b.scale / width,
            0.3 + r * math.sin(a) * b.scale / height,
            0.21,
            look.colour,
            outline=True,
        )
    yellow = look.colour[0] > 0.9 and look.colour[1] > 0.7 and look.colour[2] < 0.5
    b.disc(x, 0.3, 0.17, (0.5, 0.3, 0.14) if yellow else (0.98, 0.82, 0.22), outline=True)


def _mushroom(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    stem = b.vary(0.14, 0.025)
    b.blob(
        [
            (0.5 - stem, 0.45),
            (0.5 - stem * 0.8, 0.8),
            (0.5 - stem * 1.7, 1.0),
            (0.5 + stem * 1.7, 1.0),
            (0.5 + stem * 0.8, 0.8),
            (0.5 + stem, 0.45),
        ],
        (0.95, 0.90, 0.80),
    )
    rise = b.vary(0.04, 0.04)
    b.blob(
        [(-0.06, 0.62), (0.02, 0.24), (0.3, rise - 0.04), (0.7, rise - 0.04), (0.98, 0.24), (1.06, 0.62), (0.5, 0.56)],
        look.colour,
    )
    dots = (0.98, 0.96, 0.9) if sum(look.colour) < 2.6 else (0.80, 0.72, 0.62)
    b.spots([(0.27, 0.36), (0.5, 0.2), (0.72, 0.34), (0.52, 0.44)], 0.06, dots)


def _apple(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    b.blob(
        [
            (0.5, 0.3),
            (0.2, 0.14),
            (-0.06, 0.4),
            (0.1, 0.9),
            (0.36, 1.04),
            (0.5, 0.94),
            (0.64, 1.04),
            (0.9, 0.9),
            (1.06, 0.4),
            (0.8, 0.14),
        ],
        look.colour,
    )
    b.line([(0.5, 0.3), (0.5, 0.16), (b.vary(0.56, 0.04), 0.03)], 0.06, BARK)
    b.blob([(0.53, 0.2), (0.66, 0.02), (0.88, 0.04), (0.76, 0.2)], LEAF)
    b.oval(0.27, 0.42, 0.06, 0.12, shade(look.colour, 0.5), outline=False)


PLANTS = (
    Kind("tree", "trees", "ground", (0.75, 0.95), (0.48, 0.6), (), False, _tree),
    Kind("pine", "pines", "ground", (0.52, 0.66), (0.5, 0.62), (), False, _pine),
    Kind("palm", "palms", "ground", (0.78, 0.92), (0.48, 0.6), (), False, _palm),
    Kind("cactus", "cactuses", "ground", (0.6, 0.74), (0.36, 0.46), (), False, _cactus),
    Kind("flower", "flowers", "ground", (0.5, 0.62), (0.32, 0.42), (), False, _flower),
    Kind("mushroom", "mushrooms", "ground", (0.9, 1.1), (0.28, 0.36), (), False, _mushroom),
    Kind("apple", "apples", "ground", (0.88, 1.0), (0.26, 0.33), (), False, _apple),
)
