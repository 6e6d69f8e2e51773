"""Cat, dog, bird, fish, cow, duck, rabbit, butterfly. All face right."""

from __future__ import annotations

import skia

from darkroom.data.picturebook.brush import Brush
from darkroom.data.picturebook.colours import shade
from darkroom.data.picturebook.kind import RGB, Kind, Look

__all__ = ["ANIMALS"]

BEAK = (0.98, 0.62, 0.12)
NOSE = (0.90, 0.50, 0.52)
DARK = (0.12, 0.09, 0.10)


def _light_on(colour: RGB) -> RGB:
    """A marking that shows on `colour`."""
    return shade(colour, 0.55) if sum(colour) < 2.3 else shade(colour, -0.3)


def _legs(b: Brush, xs: tuple[float, ...], top: float, width: float, colour: RGB) -> None:
    for x in xs:
        b.rect(x - width / 2, top, width, 0.99 - top, colour, round=0.04)


def _cat(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    b.line([(0.16, 0.9), (0.02, 0.8), (b.vary(0.08, 0.05), 0.4), (b.vary(0.14, 0.05), 0.36)], 0.1, c, edge=True)
    b.blob([(0.12, 1.01), (0.1, 0.56), (0.4, 0.4), (0.72, 0.56), (0.8, 1.01)], c)  # sitting
    for i in range(int(b.rng.integers(0, 4))):  # tabby stripes
        b.line([(0.16 + 0.02 * i, 0.64 + 0.09 * i), (0.34, 0.62 + 0.09 * i)], 0.03, shade(c, -0.3))
    _legs(b, (0.6, 0.74), 0.72, 0.11, c)
    hx, hy = b.vary(0.66, 0.03), b.vary(0.32, 0.02)
    for s in (-1, 1):
        b.poly([(hx + s * 0.25, hy - 0.02), (hx + s * 0.22, hy - 0.31), (hx + s * 0.04, hy - 0.18)], c)
        b.poly([(hx + s * 0.2, hy - 0.1), (hx + s * 0.19, hy - 0.24), (hx + s * 0.1, hy - 0.16)], NOSE, outline=False)
    b.oval(hx, hy, 0.29, 0.23, c)
    for s in (-1, 1):
        b.oval(hx + s * 0.12, hy - 0.03, 0.055, 0.06, (0.72, 0.86, 0.35), outline=False)
        b.oval(hx + s * 0.12, hy - 0.03, 0.022, 0.055, DARK, outline=False)
        for dy in (-0.02, 0.03):
            b.line([(hx + s * 0.1, hy + 0.09), (hx + s * 0.34, hy + 0.08 + dy)], 0.012, _light_on(c))
    b.poly([(hx - 0.04, hy + 0.05), (hx + 0.04, hy + 0.05), (hx, hy + 0.09)], NOSE, outline=False)


def _dog(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    b.line([(0.14, 0.5), (0.05, 0.36), (b.vary(0.03, 0.02), 0.22)], 0.09, c, edge=True)
    _legs(b, (0.26, 0.62), 0.6, 0.1, shade(c, -0.2))
    b.blob([(0.08, 0.62), (0.12, 0.42), (0.5, 0.42), (0.78, 0.36), (0.78, 0.74), (0.4, 0.76), (0.12, 0.78)], c)
    _legs(b, (0.17, 0.7), 0.62, 0.11, c)
    if b.chance(0.5):
        b.oval(0.36, 0.54, 0.1, 0.08, shade(c, -0.35), outline=False)
    b.blob([(0.58, 0.44), (0.58, 0.12), (0.84, 0.08), (0.88, 0.24), (1.04, 0.28), (1.02, 0.44), (0.8, 0.5)], c)
    ear = shade(c, -0.32)
    b.blob([(0.62, 0.12), (0.52, 0.2), (0.52, 0.5), (0.66, 0.46), (0.72, 0.16)], ear)
    b.oval(0.985, 0.29, 0.035, 0.04, DARK, outline=False)
    b.eye(0.82, 0.22, 0.028)
    b.line([(0.86, 0.42), (0.97, 0.4)], 0.016, DARK)
    b.line([(0.6, 0.5), (0.7, 0.54), (0.8, 0.5)], 0.05, (0.86, 0.2, 0.2) if c[0] < 0.7 else (0.2, 0.35, 0.8))


def _bird(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    b.poly([(0.3, 0.5), (0.0, b.vary(0.42, 0.05)), (0.02, 0.62), (0.3, 0.64)], shade(c, -0.2))
    b.blob([(0.14, 0.56), (0.34, 0.36), (0.66, 0.4), (0.82, 0.62), (0.6, 0.86), (0.3, 0.78)], c)
    b.oval(0.76, 0.43, 0.15, 0.17, c)
    b.poly([(0.88, 0.38), (1.0, 0.45), (0.88, 0.5)], BEAK)
    lift = b.vary(0.06, 0.05)
    b.blob([(0.36, 0.56), (0.22, lift), (0.38, lift - 0.02), (0.66, 0.5), (0.56, 0.66)], shade(c, -0.12))
    for k in (0.34, 0.42):
        b.line([(k + 0.04, 0.54), (k - 0.06, lift + 0.18)], 0.018, shade(c, -0.35))
    b.oval(0.56, 0.72, 0.14, 0.08, _light_on(c), outline=False)
    b.eye(0.79, 0.39, 0.035)


def _fish(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    b.poly([(0.26, 0.5), (0.0, 0.16), (0.08, 0.5), (0.0, 0.86)], shade(c, -0.12))
    b.blob([(0.4, 0.2), (0.5, -0.04), (0.72, 0.02), (0.7, 0.24)], shade(c, -0.18))
    b.blob([(0.14, 0.5), (0.4, 0.06), (0.8, 0.1), (1.06, 0.5), (0.8, 0.9), (0.4, 0.94)], c)
    stripes = int(b.rng.integers(0, 4))
    for i in range(stripes):
        x = 0.34 + 0.12 * i
        b.line([(x, 0.27), (x + 0.05, 0.5), (x, 0.73)], 0.05, _light_on(c))
    if not stripes:
        for x, y in ((0.4, 0.4), (0.5, 0.55), (0.4, 0.66), (0.56, 0.38)):
            b.line([(x, y - 0.07), (x - 0.05, y), (x, y + 0.07)], 0.025, shade(c, -0.25))
    b.blob([(0.6, 0.56), (0.46, 0.74), (0.56, 0.8), (0.7, 0.6)], shade(c, -0.2))
    b.eye(0.82, 0.4, 0.055)
    b.line([(0.93, 0.6), (0.86, 0.62)], 0.025, DARK)


def _cow(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    patch = (0.17, 0.13, 0.12) if sum(c) > 1.3 else (0.93, 0.92, 0.9)
    b.line([(0.08, 0.34), (0.03, 0.5), (0.04, 0.68)], 0.035, c, edge=True)
    b.disc(0.04, 0.7, 0.04, patch)
    _legs(b, (0.24, 0.58), 0.62, 0.08, shade(c, -0.22))
    b.blob([(0.04, 0.5), (0.06, 0.24), (0.4, 0.26), (0.72, 0.24), (0.76, 0.62), (0.44, 0.8), (0.08, 0.76)], c)
    _legs(b, (0.15, 0.66), 0.64, 0.085, c)
    b.oval(0.36, 0.75, 0.06, 0.05, NOSE, outline=False)
    for x, y, r in ((0.2, 0.4, 0.09), (0.44, 0.36, 0.1), (0.56, 0.58, 0.08)):
        b.oval(b.vary(x, 0.03), b.vary(y, 0.03), b.vary(r, 0.02), b.vary(r, 0.02), patch, outline=False)
    for s in (-1, 1):
        b.line([(0.82 + s * 0.07, 0.16), (0.82 + s * 0.12, 0.03)], 0.045, (0.93, 0.88, 0.74), edge=True)
        b.oval(0.82 + s * 0.14, 0.22, 0.06, 0.05, c)
    b.blob([(0.7, 0.16), (0.82, 0.08), (0.94, 0.16), (0.94, 0.5), (0.82, 0.6), (0.7, 0.5)], c)
    b.oval(0.83, 0.48, 0.115, 0.1, (0.95, 0.70, 0.68))
    for s in (-1, 1):
        b.disc(0.83 + s * 0.045, 0.48, 0.018, DARK)
        b.eye(0.82 + s * 0.055, 0.26, 0.02)


def _duck(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    for x in (0.4, 0.54):
        b.line([(x, 0.84), (x, 0.95), (x + 0.09, 0.97)], 0.045, BEAK)
    b.blob([(0.0, 0.42), (0.16, 0.58), (0.5, 0.5), (0.78, 0.56), (0.72, 0.86), (0.4, 0.95), (0.1, 0.8)], c)
    b.blob([(0.54, 0.66), (0.58, 0.3), (0.84, 0.3), (0.78, 0.74)], c, outline=False)
    b.oval(0.7, 0.24, 0.19, 0.2, c)
    b.blob(
        [(0.84, 0.2), (1.02, 0.24), (1.04, 0.32), (0.84, 0.34)], BEAK if c[1] < 0.45 or c[2] > 0.4 else (0.9, 0.36, 0.1)
    )
    b.blob([(0.2, 0.64), (0.46, 0.58), (0.56, 0.72), (0.3, 0.84)], shade(c, -0.16))
    b.line([(0.3, 0.72), (0.46, 0.7)], 0.018, shade(c, -0.4))
    b.eye(b.vary(0.75, 0.01), 0.19, 0.032)


def _rabbit(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    b.disc(0.12, 0.8, 0.12, (0.97, 0.96, 0.94) if sum(c) < 2.6 else shade(c, -0.2), outline=True)
    b.blob([(0.1, 1.0), (0.12, 0.62), (0.42, 0.48), (0.74, 0.62), (0.8, 1.02)], c)
    b.oval(0.34, 0.84, 0.2, 0.14, c)
    tilt = b.vary(0, 0.05)
    for dx, t in ((-0.07, -0.03), (0.12, 0.06)):
        x = 0.6 + dx
        b.blob([(x - 0.08, 0.36), (x - 0.1 + t, 0.06), (x + t + tilt, -0.06), (x + 0.1 + t, 0.06), (x + 0.08, 0.36)], c)
        b.oval(x + t * 0.7, 0.17, 0.035, 0.11, NOSE, outline=False)
    b.oval(0.66, 0.46, 0.24, 0.17, c)
    b.eye(0.73, 0.42, 0.035)
    b.disc(0.89, 0.47, 0.03, NOSE)
    b.oval(0.66, 0.95, 0.13, 0.05, c)


def _butterfly(canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
    b, c = Brush(canvas, width, height, look), look.colour
    up, low = b.vary(0.04, 0.05), b.vary(0.92, 0.04)
    for s in (-1, 1):
        b.blob(
            [
                (0.5, 0.56),
                (0.5 + s * 0.2, 0.56),
                (0.5 + s * 0.46, 0.74),
                (0.5 + s * 0.28, low + 0.06),
                (0.5 + s * 0.06, 0.72),
            ],
            shade(c, -0.12),
        )
        b.blob(
            [
                (0.5, 0.5),
                (0.5 + s * 0.12, 0.18),
                (0.5 + s * 0.38, up - 0.06),
                (0.5 + s * 0.54, 0.22),
                (0.5 + s * 0.36, 0.58),
            ],
            c,
        )
        b.oval(0.5 + s * 0.33, 0.27, 0.07, 0.1, _light_on(c), outline=False)
        b.oval(0.5 + s * 0.26, 0.74, 0.05, 0.07, _light_on(c), outline=False)
        b.line([(0.5, 0.24), (0.5 + s * 0.05, 0.1), (0.5 + s * 0.13, 0.03)], 0.02, DARK)
    b.oval(0.5, 0.52, 0.045, 0.28, DARK, outline=False)


ANIMALS = (
    Kind("cat", "cats", "ground", (0.82, 0.95), (0.36, 0.46), (), True, _cat),
    Kind("dog", "dogs", "ground", (1.05, 1.25), (0.34, 0.42), (), True, _dog),
    Kind("bird", "birds", "sky", (1.15, 1.35), (0.24, 0.31), (), True, _bird),
    Kind("fish", "fish", "water", (1.4, 1.7), (0.24, 0.31), (), True, _fish),
    Kind("cow", "cows", "ground", (1.2, 1.4), (0.38, 0.46), (), True, _cow),
    Kind("duck", "ducks", "ground", (1.0, 1.15), (0.3, 0.38), (), True, _duck),
    Kind("rabbit", "rabbits", "ground", (0.72, 0.86), (0.34, 0.43), (), True, _rabbit),
    Kind("butterfly", "butterflies", "sky", (1.05, 1.25), (0.24, 0.31), (), False, _butterfly),
)
