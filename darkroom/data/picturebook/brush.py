"""A small drawing vocabulary on skia. All coordinates are fractions of the thing's box, y down."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import skia

from darkroom.data.picturebook.colours import ink, shade
from darkroom.data.picturebook.kind import RGB, Look

__all__ = ["Brush", "colour4"]

Point = tuple[float, float]


def colour4(rgb: RGB, alpha: float = 1.0) -> skia.Color4f:
    return skia.Color4f(rgb[0], rgb[1], rgb[2], alpha)


class Brush:
    """Draws shapes with a soft light from the top left and a warm outline into the box (0, 0)–(1, 1)."""

    def __init__(self, canvas: skia.Canvas, width: float, height: float, look: Look) -> None:
        self.canvas, self.w, self.h, self.look = canvas, width, height, look
        self.rng = look.rng
        self.scale = min(width, height)

    def vary(self, middle: float, spread: float) -> float:
        """A number near `middle`: the natural variation of a proportion."""
        return middle + spread * float(self.rng.uniform(-1, 1))

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    # Shapes

    def oval(self, x: float, y: float, rx: float, ry: float, colour: RGB, *, outline: bool = True) -> None:
        """Ellipse around (x, y)."""
        path = skia.Path()
        path.addOval(skia.Rect.MakeLTRB((x - rx) * self.w, (y - ry) * self.h, (x + rx) * self.w, (y + ry) * self.h))
        self.paint(path, colour, outline=outline)

    def disc(self, x: float, y: float, r: float, colour: RGB, *, outline: bool = False) -> None:
        """Circle; the radius is a fraction of the shorter side."""
        self.oval(x, y, r * self.scale / self.w, r * self.scale / self.h, colour, outline=outline)

    def rect(
        self, x: float, y: float, w: float, h: float, colour: RGB, *, round: float = 0.0, outline: bool = True
    ) -> None:
        r = round * self.scale
        path = skia.Path()
        path.addRoundRect(skia.Rect.MakeXYWH(x * self.w, y * self.h, w * self.w, h * self.h), r, r)
        self.paint(path, colour, outline=outline)

    def poly(self, points: Sequence[Point], colour: RGB, *, outline: bool = True) -> None:
        path = skia.Path()
        path.addPoly([skia.Point(x * self.w, y * self.h) for x, y in points], True)
        self.paint(path, colour, outline=outline)

    def blob(self, points: Sequence[Point], colour: RGB, *, outline: bool = True) -> None:
        """Closed smooth curve whose control polygon is `points`."""
        self.paint(self.smooth(points, closed=True), colour, outline=outline)

    def smooth(self, points: Sequence[Point], *, closed: bool) -> skia.Path:
        """Quadratic spline through the middles of the polygon's edges."""
        p = [(x * self.w, y * self.h) for x, y in points]
        path = skia.Path()
        if closed:
            p = [*p, p[0]]
            path.moveTo((p[-2][0] + p[0][0]) / 2, (p[-2][1] + p[0][1]) / 2)
        else:
            path.moveTo(*p[0])
        for a, b in itertools.pairwise(p):
            path.quadTo(*a, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
        if closed:
            path.close()
        else:
            path.lineTo(*p[-1])
        return path

    def line(self, points: Iterable[Point], width: float, colour: RGB, *, edge: bool = False) -> None:
        """Smooth open stroke, `width` as a fraction of the shorter side; `edge` draws it with an outline."""
        path = self.smooth(list(points), closed=False)
        if edge:
            self._stroke(path, width * self.scale + 2 * self.look.outline, ink(colour))
        self._stroke(path, max(width * self.scale, 0.6), colour)

    def paint(self, path: skia.Path, colour: RGB, *, outline: bool = True) -> None:
        """Fill with a gradient from light (top left) to shade (bottom right), then the outline."""
        box = path.getBounds()
        paint = skia.Paint(AntiAlias=True)
        paint.setShader(
            skia.GradientShader.MakeLinear(
                points=[skia.Point(box.left(), box.top()), skia.Point(box.right(), box.bottom())],
                colors=[
                    colour4(shade(colour, 0.16)).toColor(),
                    colour4(colour).toColor(),
                    colour4(shade(colour, -0.17)).toColor(),
                ],
                positions=[0.0, 0.45, 1.0],
            )
        )
        self.canvas.drawPath(path, paint)
        if outline and self.look.outline > 0:
            self._stroke(path, self.look.outline, ink(colour))

    def _stroke(self, path: skia.Path, width: float, colour: RGB) -> None:
        self.canvas.drawPath(
            path,
            skia.Paint(
                AntiAlias=True,
                Style=skia.Paint.kStroke_Style,
                StrokeWidth=width,
                Color4f=colour4(colour),
                StrokeCap=skia.Paint.kRound_Cap,
                StrokeJoin=skia.Paint.kRound_Join,
            ),
        )

    # What many things have

    def eye(self, x: float, y: float, r: float) -> None:
        self.disc(x, y, r * 1.5, (0.98, 0.98, 0.96))
        self.disc(x + r * 0.25, y, r, (0.08, 0.06, 0.08))
        self.disc(x, y - r * 0.35, r * 0.35, (1, 1, 1))

    def spots(self, centres: Iterable[Point], r: float, colour: RGB) -> None:
        for x, y in centres:
            self.disc(x, y, self.vary(r, r * 0.3), colour)
