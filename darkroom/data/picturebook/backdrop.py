"""Sky, background and ground of a scene."""

from __future__ import annotations

import numpy as np
import skia

from darkroom.data.picturebook.brush import colour4
from darkroom.data.picturebook.colours import mix, shade
from darkroom.data.picturebook.kind import RGB

__all__ = ["BACKGROUNDS", "CELESTIALS", "GROUNDS", "SKIES", "draw_backdrop", "horizon"]

SKIES: dict[str, tuple[RGB, RGB]] = {  # colour at the top and at the horizon
    "day": ((0.42, 0.71, 0.94), (0.83, 0.93, 0.98)),
    "sunset": ((0.48, 0.34, 0.62), (0.99, 0.70, 0.46)),
    "night": ((0.09, 0.12, 0.33), (0.26, 0.30, 0.56)),
}
GROUNDS: dict[str, tuple[RGB, RGB]] = {  # colour at the horizon and at the lower edge
    "meadow": ((0.60, 0.78, 0.40), (0.38, 0.63, 0.27)),
    "beach": ((0.95, 0.86, 0.64), (0.89, 0.75, 0.48)),
    "snow": ((0.90, 0.94, 0.98), (0.80, 0.88, 0.95)),
    "sea": ((0.30, 0.62, 0.78), (0.12, 0.40, 0.62)),
}
BACKGROUNDS = ("none", "hills", "mountains")
CELESTIALS = ("none", "sun", "moon")
_TINT: dict[str, tuple[RGB, float]] = {  # the light that falls on the ground
    "day": ((1, 1, 1), 0.0),
    "sunset": ((0.85, 0.45, 0.35), 0.24),
    "night": ((0.10, 0.12, 0.34), 0.46),
}


def horizon(rng: np.random.Generator) -> float:
    """Height of the horizon as a share of the picture's height, measured from the top."""
    return float(rng.uniform(0.54, 0.66))


def draw_backdrop(
    canvas: skia.Canvas,
    width: int,
    height: int,
    *,
    sky: str,
    ground: str,
    background: str,
    clouds: int,
    celestial: str,
    level: float,
    rng: np.random.Generator,
) -> None:
    """Fill the canvas; `level` is the horizon's height as a share of the picture's."""
    y = level * height
    unit = min(width, height)
    top, low = SKIES[sky]
    warm = float(rng.uniform(-0.05, 0.05))
    _gradient(canvas, skia.Rect.MakeWH(width, y + 1), shade(top, warm), shade(low, warm / 2))
    if sky == "night":
        _stars(canvas, width, y, unit, rng)
    if celestial != "none":
        _celestial(canvas, celestial, sky, width, y, unit, rng)
    for _ in range(clouds):
        _cloud(canvas, sky, width, y, unit, rng)
    tint, share = _TINT[sky]
    if background == "hills":
        for k, green in enumerate(((0.55, 0.72, 0.56), (0.45, 0.66, 0.42))):
            base = mix((0.80, 0.86, 0.93), green, 0.5) if ground == "snow" else green
            _ridge(canvas, width, height, y, unit * (0.17 - 0.06 * k), mix(base, tint, share), rng, sharp=False)
    elif background == "mountains":
        _ridge(canvas, width, height, y, unit * 0.3, mix((0.52, 0.55, 0.66), tint, share), rng, sharp=True)
    near, far = GROUNDS[ground]
    _gradient(canvas, skia.Rect.MakeLTRB(0, y, width, height), mix(near, tint, share), mix(far, tint, share))
    _texture(canvas, ground, mix(far, tint, share), width, height, y, unit, rng)


def _gradient(canvas: skia.Canvas, rect: skia.Rect, top: RGB, low: RGB) -> None:
    paint = skia.Paint()
    paint.setShader(
        skia.GradientShader.MakeLinear(
            points=[skia.Point(0, rect.top()), skia.Point(0, rect.bottom())],
            colors=[colour4(top).toColor(), colour4(low).toColor()],
        )
    )
    canvas.drawRect(rect, paint)


def _fill(rgb: RGB, alpha: float = 1.0) -> skia.Paint:
    return skia.Paint(AntiAlias=True, Color4f=colour4(rgb, alpha))


def _stars(canvas: skia.Canvas, width: int, y: float, unit: float, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(10, 22))):
        r = unit * float(rng.uniform(0.003, 0.008))
        canvas.drawCircle(float(rng.uniform(0, width)), float(rng.uniform(0, y * 0.8)), r, _fill((1, 1, 0.88), 0.9))


def _celestial(
    canvas: skia.Canvas, what: str, sky: str, width: int, y: float, unit: float, rng: np.random.Generator
) -> None:
    x = width * float(rng.uniform(0.08, 0.92))
    r = unit * float(rng.uniform(0.055, 0.075))
    cy = y * float(rng.uniform(0.14, 0.3)) if sky != "sunset" else y * float(rng.uniform(0.6, 0.85))
    if what == "sun":
        body = (1.0, 0.86, 0.28) if sky == "day" else (1.0, 0.55, 0.26)
        canvas.drawCircle(x, cy, r * 1.7, _fill(body, 0.25))
        canvas.drawCircle(x, cy, r, _fill(body))
        return
    body = (0.97, 0.95, 0.82)
    canvas.drawCircle(x, cy, r * 1.6, _fill(body, 0.14))
    canvas.drawCircle(x, cy, r, _fill(body))
    for dx, dy, s in ((-0.3, -0.2, 0.2), (0.25, 0.3, 0.15), (0.3, -0.35, 0.1)):
        canvas.drawCircle(x + dx * r, cy + dy * r, s * r, _fill((0.84, 0.82, 0.70)))


def _cloud(canvas: skia.Canvas, sky: str, width: int, y: float, unit: float, rng: np.random.Generator) -> None:
    tint = {"day": (1.0, 1.0, 1.0), "sunset": (0.99, 0.80, 0.74), "night": (0.42, 0.46, 0.66)}[sky]
    x, cy = width * float(rng.uniform(0, 1)), y * float(rng.uniform(0.1, 0.55))
    size = unit * float(rng.uniform(0.05, 0.09))
    paint = _fill(tint, 0.8)
    for dx, dy, r in ((-1.3, 0.2, 0.7), (-0.4, -0.2, 1.0), (0.6, -0.1, 0.85), (1.4, 0.25, 0.6)):
        r = size * r * float(rng.uniform(0.85, 1.1))
        canvas.drawOval(
            skia.Rect.MakeLTRB(
                x + dx * size - r * 1.2, cy + dy * size - r * 0.8, x + dx * size + r * 1.2, cy + dy * size + r * 0.8
            ),
            paint,
        )


def _ridge(
    canvas: skia.Canvas,
    width: int,
    height: int,
    y: float,
    rise: float,
    rgb: RGB,
    rng: np.random.Generator,
    *,
    sharp: bool,
) -> None:
    n = max(3, round(width / height * 4))
    xs = np.linspace(-0.1, 1.1, 2 * n + 1) * width
    peaks = [y - rise * float(rng.uniform(0.6, 1.0) if k % 2 else rng.uniform(0.0, 0.25)) for k in range(2 * n + 1)]
    path = skia.Path()
    path.moveTo(float(xs[0]), y + 1)
    for k, x in enumerate(xs):
        if sharp or k == 0:
            path.lineTo(float(x), peaks[k])
        else:
            path.quadTo(float(xs[k - 1]), peaks[k - 1], float(x + xs[k - 1]) / 2, (peaks[k] + peaks[k - 1]) / 2)
    path.lineTo(float(xs[-1]), y + 1)
    path.close()
    canvas.drawPath(path, _fill(rgb))
    if sharp:  # snow on the peaks
        for k in range(1, 2 * n + 1, 2):
            x, top = float(xs[k]), peaks[k]
            half = float(xs[1] - xs[0]) * 0.3
            drop = rise * 0.24
            cap = skia.Path()
            cap.addPoly(
                [
                    skia.Point(x, top),
                    skia.Point(x + half, top + drop),
                    skia.Point(x + half * 0.3, top + drop * 0.75),
                    skia.Point(x - half * 0.2, top + drop * 1.1),
                    skia.Point(x - half, top + drop),
                ],
                True,
            )
            canvas.drawPath(cap, _fill(mix((0.96, 0.97, 1.0), rgb, 0.25)))


def _texture(
    canvas: skia.Canvas, ground: str, rgb: RGB, width: int, height: int, y: float, unit: float, rng: np.random.Generator
) -> None:
    """Tufts, ripples, grains and drifts, denser towards the horizon."""
    light, dark = shade(rgb, 0.22), shade(rgb, -0.12)
    for _ in range(int(rng.integers(9, 16))):
        depth = float(rng.uniform(0.05, 1.0))
        x, cy, s = float(rng.uniform(0, width)), y + (height - y) * depth, unit * (0.012 + 0.03 * depth)
        tone = light if rng.random() < 0.5 else dark
        if ground == "meadow":
            path = skia.Path()
            path.moveTo(x - s * 0.5, cy)
            path.lineTo(x - s * 0.3, cy - s)
            path.lineTo(x, cy)
            path.lineTo(x + s * 0.35, cy - s * 0.8)
            path.lineTo(x + s * 0.5, cy)
            canvas.drawPath(path, _fill(tone))
        elif ground == "sea":
            canvas.drawOval(
                skia.Rect.MakeLTRB(x - s * 2.2, cy - s * 0.16, x + s * 2.2, cy + s * 0.16), _fill(light, 0.7)
            )
        elif ground == "snow":
            canvas.drawOval(skia.Rect.MakeLTRB(x - s * 2.5, cy - s * 0.4, x + s * 2.5, cy + s * 0.4), _fill(tone, 0.35))
        else:
            canvas.drawCircle(x, cy, s * 0.22, _fill(tone, 0.9))
