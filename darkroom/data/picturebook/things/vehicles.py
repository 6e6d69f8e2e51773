"""Boat, car, balloon, kite, rocket."""

from __future__ import annotations

import skia

from darkroom.data.picturebook.brush import Brush
from darkroom.data.picturebook.colours import shade
from darkroom.data.picturebook.kind import Kind, Look

__all__ = ["VEHICLES"]

GLASS = (0.72, 0.88, 0.96)
WOOD = (0.50, 0.33, 0.20)


def _boat(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b = Brush(canvas, width, height, look)
    mast = b.vary(0.5, 0.04)
    b.line([(mast, 0.76), (mast, 0.02)], 0.035, WOOD)
    b.poly([(mast + 0.04, 0.05), (mast + 0.04, 0.66), (0.96, 0.66)], look.parts["sail"])
    b.poly([(mast - 0.04, 0.16), (mast - 0.04, 0.66), (0.1, 0.66)], shade(look.parts["sail"], -0.06))
    b.blob([(-0.06, 0.68), (0.5, 0.74), (1.06, 0.68), (0.9, 0.97), (0.5, 1.0), (0.1, 0.97)], look.colour)
    b.line([(0.08, 0.82), (0.5, 0.85), (0.92, 0.82)], 0.025, shade(look.colour, 0.4))


def _car(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    roof = b.vary(0.06, 0.04)
    b.blob([(0.14, 0.5), (0.26, roof), (0.44, roof - 0.02), (0.66, roof), (0.82, 0.5)], c)
    b.poly([(0.26, 0.44), (0.32, roof + 0.13), (0.46, roof + 0.11), (0.46, 0.44)], GLASS)
    b.poly([(0.51, 0.44), (0.51, roof + 0.11), (0.62, roof + 0.13), (0.71, 0.44)], GLASS)
    b.blob([(-0.04, 0.82), (0.0, 0.44), (0.3, 0.42), (0.74, 0.42), (0.98, 0.48), (1.06, 0.84), (0.5, 0.84)], c)
    b.line([(0.48, 0.5), (0.48, 0.76)], 0.014, shade(c, -0.35))
    b.rect(0.53, 0.54, 0.08, 0.04, shade(c, -0.35), outline=False)
    b.oval(0.96, 0.6, 0.035, 0.07, (1.0, 0.95, 0.65))
    for x in (0.23, 0.77):
        b.disc(x, 0.82, 0.17, (0.14, 0.13, 0.15), outline=True)
        b.disc(x, 0.82, 0.08, (0.78, 0.78, 0.8))


def _balloon(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    for x in (0.38, 0.62):
        b.line([(x, 0.66), (0.5 + (x - 0.5) * 0.7, 0.86)], 0.016, WOOD)
    hull = [(0.5, 0.0), (0.96, 0.02), (1.03, 0.42), (0.66, 0.72), (0.34, 0.72), (-0.03, 0.42), (0.04, 0.02)]
    b.blob(hull, c)
    light = shade(c, 0.38) if sum(c) < 2.5 else shade(c, -0.2)
    for half in (b.vary(0.34, 0.02), 0.12):
        ring = [
            (0.5, 0.02),
            (0.5 + half, 0.06),
            (0.5 + half, 0.44),
            (0.5 + half * 0.3, 0.68),
            (0.5 - half * 0.3, 0.68),
            (0.5 - half, 0.44),
            (0.5 - half, 0.06),
        ]
        b.blob(ring, light if half > 0.2 else c, outline=False)
    b.rect(0.4, 0.84, 0.2, 0.15, WOOD, round=0.03)


def _kite(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    top, side = (b.vary(0.56, 0.05), 0.02), b.vary(0.27, 0.03)
    low = (0.44, 0.66)
    tail = [low, (0.34, 0.74), (0.5, 0.82), (0.3, 0.9), (0.42, 0.98)]
    b.line(tail, 0.022, (0.35, 0.25, 0.2))
    b.poly([top, (0.94, side + 0.02), low, (0.08, side)], c)
    b.poly([top, (0.94, side + 0.02), (0.5, side + 0.01)], shade(c, 0.35), outline=False)
    b.poly([low, (0.08, side), (0.5, side + 0.01)], shade(c, -0.22), outline=False)
    b.line([top, low], 0.018, WOOD)
    b.line([(0.08, side), (0.94, side + 0.02)], 0.018, WOOD)
    for x, y in tail[2:4]:
        b.poly([(x - 0.09, y - 0.04), (x + 0.09, y + 0.04), (x + 0.09, y - 0.04), (x - 0.09, y + 0.04)], c)


def _rocket(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    fire = b.vary(0.98, 0.02)
    b.blob([(0.36, 0.8), (0.3, 0.9), (0.5, fire + 0.08), (0.7, 0.9), (0.64, 0.8)], (0.99, 0.62, 0.12), outline=False)
    b.blob([(0.42, 0.8), (0.42, 0.88), (0.5, fire), (0.58, 0.88), (0.58, 0.8)], (1.0, 0.92, 0.45), outline=False)
    for s in (-1, 1):
        b.poly(
            [(0.5 + s * 0.2, 0.5), (0.5 + s * 0.48, 0.78), (0.5 + s * 0.46, 0.9), (0.5 + s * 0.18, 0.8)], shade(c, -0.3)
        )
    b.blob([(0.5, -0.12), (0.7, 0.14), (0.8, 0.5), (0.7, 0.84), (0.3, 0.84), (0.2, 0.5), (0.3, 0.14)], c)
    b.disc(0.5, b.vary(0.38, 0.02), 0.19, shade(c, -0.35) if sum(c) > 0.8 else (0.7, 0.7, 0.72), outline=True)
    b.disc(0.5, 0.38, 0.13, GLASS)
    b.line([(0.27, 0.66), (0.73, 0.66)], 0.05, shade(c, 0.4) if sum(c) < 2.5 else shade(c, -0.25))


VEHICLES = (
    Kind("boat", "boats", "water", (0.9, 1.1), (0.36, 0.46), ("sail",), False, _boat),
    Kind("car", "cars", "ground", (1.6, 1.9), (0.26, 0.33), (), True, _car),
    Kind("balloon", "balloons", "sky", (0.68, 0.8), (0.36, 0.46), (), False, _balloon),
    Kind("kite", "kites", "sky", (0.62, 0.76), (0.36, 0.46), (), False, _kite),
    Kind("rocket", "rockets", "sky", (0.5, 0.6), (0.4, 0.5), (), False, _rocket),
)
