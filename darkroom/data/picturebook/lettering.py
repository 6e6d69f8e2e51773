"""Capital letters as strokes on a grid of 4 × 6, so that signs need no font."""

from __future__ import annotations

import skia

__all__ = ["draw_word"]

# Polylines per letter, points as "xy" digits: x 0 … 4 to the right, y 0 … 6 downwards.
STROKES: dict[str, tuple[str, ...]] = {
    "a": ("06 20 46", "14 34"),
    "b": ("00 06 36 45 44 33 42 41 30 00", "03 33"),
    "c": ("41 30 10 01 05 16 36 45",),
    "d": ("00 06 26 44 42 20 00",),
    "e": ("40 00 06 46", "03 33"),
    "f": ("40 00 06", "03 33"),
    "g": ("41 30 10 01 05 16 36 45 43 23",),
    "h": ("00 06", "40 46", "03 43"),
    "i": ("10 30", "20 26", "16 36"),
    "j": ("40 45 36 16 05",),
    "k": ("00 06", "40 03 46"),
    "l": ("00 06 46",),
    "m": ("06 00 23 40 46",),
    "n": ("06 00 46 40",),
    "o": ("10 30 41 45 36 16 05 01 10",),
    "p": ("06 00 30 41 42 33 03",),
    "q": ("10 30 41 45 36 16 05 01 10", "24 46"),
    "r": ("06 00 30 41 42 33 03", "23 46"),
    "s": ("41 30 10 01 02 13 33 44 45 36 16 05",),
    "t": ("00 40", "20 26"),
    "u": ("00 05 16 36 45 40",),
    "v": ("00 26 40",),
    "w": ("00 16 23 36 40",),
    "x": ("00 46", "40 06"),
    "y": ("00 23 40", "23 26"),
    "z": ("00 40 06 46",),
}


def draw_word(canvas: skia.Canvas, word: str, rect: skia.Rect, colour: skia.Color4f) -> None:
    """Write `word` (a–z, any case) into `rect`, as large as fits."""
    unit = min(rect.width() / (6 * len(word)), rect.height() / 7.4)  # a letter with its gap is 6 × 7.4
    left = rect.centerX() - unit * (6 * len(word) - 2) / 2
    top = rect.centerY() - unit * 3
    paint = skia.Paint(
        AntiAlias=True,
        Style=skia.Paint.kStroke_Style,
        StrokeWidth=unit * 1.15,
        Color4f=colour,
        StrokeCap=skia.Paint.kRound_Cap,
        StrokeJoin=skia.Paint.kRound_Join,
    )
    for i, letter in enumerate(word.lower()):
        for stroke in STROKES[letter]:
            points = [skia.Point(left + (6 * i + int(p[0])) * unit, top + int(p[1]) * unit) for p in stroke.split()]
            path = skia.Path()
            path.addPoly(points, False)
            canvas.drawPath(path, paint)
