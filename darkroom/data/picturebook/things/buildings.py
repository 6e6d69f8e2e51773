"""House, lighthouse, windmill, tent."""

from __future__ import annotations

import math

import skia

from darkroom.data.picturebook.brush import Brush
from darkroom.data.picturebook.colours import shade
from darkroom.data.picturebook.kind import Kind, Look

__all__ = ["BUILDINGS"]

GLASS = (0.75, 0.90, 0.97)
LAMP = (1.0, 0.92, 0.55)


def _house(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    eaves = b.vary(0.45, 0.05)
    if b.chance(0.6):
        x = b.vary(0.74, 0.06)
        b.rect(x, 0.08, 0.1, eaves - 0.1, (0.62, 0.36, 0.30))
    b.rect(0.1, eaves, 0.8, 0.99 - eaves, look.colour)
    for i in range(3):  # planks
        y = eaves + (i + 1) * (0.99 - eaves) / 4
        b.line([(0.12, y), (0.88, y)], 0.008, shade(look.colour, -0.16))
    lean = b.vary(0.5, 0.08)
    b.poly([(0.0, eaves + 0.03), (lean, 0.02), (1.0, eaves + 0.03)], look.parts["roof"])
    for i in range(1, 4):
        y = 0.02 + i * (eaves - 0.02) / 4
        s = i / 4 * 0.9
        b.line([(lean * (1 - s), y), (lean + (1 - lean) * s, y)], 0.008, shade(look.parts["roof"], -0.2))
    door = b.vary(0.5, 0.14)
    b.rect(door - 0.08, 0.68, 0.17, 0.31, look.parts["door"], round=0.03)
    b.disc(door + 0.05, 0.84, 0.014, LAMP)
    for x in (door - 0.27, door + 0.2):
        if 0.12 < x < 0.76:
            b.rect(x, eaves + 0.14, 0.15, 0.16, LAMP if b.chance(0.5) else GLASS, round=0.01)
            b.line([(x + 0.075, eaves + 0.14), (x + 0.075, eaves + 0.3)], 0.012, (0.3, 0.2, 0.16))
            b.line([(x, eaves + 0.22), (x + 0.15, eaves + 0.22)], 0.012, (0.3, 0.2, 0.16))


def _lighthouse(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    top, base = b.vary(0.2, 0.03), b.vary(0.34, 0.04)
    white = (0.96, 0.95, 0.92)
    b.blob([(0.02, 0.99), (0.1, 0.88), (0.9, 0.88), (0.98, 0.99)], (0.5, 0.48, 0.47))

    def edge(y: float) -> float:
        return top + (base - top) * (y - 0.26) / 0.68

    b.poly([(0.5 - top, 0.26), (0.5 + top, 0.26), (0.5 + base, 0.94), (0.5 - base, 0.94)], look.colour)
    for y in (0.40, 0.66):
        a, c = edge(y), edge(y + 0.1)
        b.poly([(0.5 - a, y), (0.5 + a, y), (0.5 + c, y + 0.1), (0.5 - c, y + 0.1)], white, outline=False)
    b.rect(0.5 - top - 0.08, 0.23, 2 * top + 0.16, 0.045, (0.25, 0.24, 0.27))
    b.rect(0.5 - top * 0.75, 0.11, top * 1.5, 0.12, LAMP)
    b.poly([(0.5 - top, 0.12), (0.5, 0.01), (0.5 + top, 0.12)], look.colour)
    b.rect(0.44, 0.82, 0.13, 0.12, (0.36, 0.24, 0.18), round=0.05)


def _windmill(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    b.poly([(0.34, 0.4), (0.66, 0.4), (0.76, 0.99), (0.24, 0.99)], look.colour)
    b.blob([(0.3, 0.42), (0.36, 0.24), (0.5, 0.2), (0.64, 0.24), (0.7, 0.42)], shade(look.colour, -0.25))
    b.rect(0.43, 0.8, 0.14, 0.19, (0.36, 0.24, 0.18), round=0.06)
    b.rect(0.46, 0.55, 0.09, 0.08, LAMP)
    turn = float(b.rng.uniform(0, math.pi / 2))
    sail = (0.95, 0.92, 0.84)
    for k in range(4):
        a = turn + k * math.pi / 2
        dx, dy = math.cos(a) * b.scale / width, math.sin(a) * b.scale / height
        nx, ny = -math.sin(a) * b.scale / width, math.cos(a) * b.scale / height
        x, y, r, t = 0.5, 0.33, 0.42, 0.11
        b.poly(
            [
                (x + dx * 0.1, y + dy * 0.1),
                (x + dx * r, y + dy * r),
                (x + dx * r + nx * t, y + dy * r + ny * t),
                (x + dx * 0.1 + nx * t, y + dy * 0.1 + ny * t),
            ],
            sail,
        )
        b.line([(x, y), (x + dx * r, y + dy * r)], 0.025, (0.4, 0.27, 0.18))
    b.disc(0.5, 0.33, 0.04, (0.4, 0.27, 0.18), outline=True)


def _tent(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    top = b.vary(0.5, 0.06)
    b.poly([(0.0, 0.98), (top, 0.08), (1.0, 0.98)], look.colour)
    light = shade(look.colour, 0.35)
    for s in (0.22, 0.78):
        b.poly([(top, 0.08), (s - 0.06, 0.98), (s + 0.06, 0.98)], light, outline=False)
    b.poly([(top, 0.3), (0.36, 0.98), (0.64, 0.98)], (0.22, 0.14, 0.14))
    b.poly([(top, 0.3), (0.36, 0.98), (0.43, 0.98)], shade(look.colour, -0.15))
    b.line([(top, 0.1), (top, 0.0)], 0.03, (0.4, 0.28, 0.2))


BUILDINGS = (
    Kind("house", "houses", "ground", (0.9, 1.15), (0.42, 0.52), ("roof", "door"), False, _house),
    Kind("lighthouse", "lighthouses", "ground", (0.42, 0.52), (0.52, 0.64), (), False, _lighthouse),
    Kind("windmill", "windmills", "ground", (0.72, 0.84), (0.48, 0.58), (), False, _windmill),
    Kind("tent", "tents", "ground", (1.15, 1.4), (0.3, 0.38), (), False, _tent),
)
