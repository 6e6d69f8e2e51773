"""Scenes to pixels."""

from __future__ import annotations

import numpy as np
import skia

from darkroom.data.picturebook.backdrop import draw_backdrop
from darkroom.data.picturebook.brush import colour4
from darkroom.data.picturebook.colours import COLOURS, ink, vary
from darkroom.data.picturebook.kind import Look
from darkroom.data.picturebook.lettering import draw_word
from darkroom.data.picturebook.scene import Scene, Sign, Thing
from darkroom.data.picturebook.things import KINDS
from darkroom.errors import InputError

__all__ = ["draw_sign", "draw_thing", "render"]

BOARD = (0.90, 0.80, 0.62)
POST = (0.45, 0.30, 0.19)


def render(scene: Scene, width: int, height: int) -> np.ndarray:
    """Paint `scene` as a uint8 array (height, width, 3), RGB. The same arguments give the same bytes."""
    if not (8 <= width <= 8192 and 8 <= height <= 8192):
        raise InputError(f"a picture of {width}x{height} cannot be painted; sides of 8 to 8192 can")
    surface = skia.Surface(width, height)
    canvas = surface.getCanvas()
    draw_backdrop(
        canvas,
        width,
        height,
        sky=scene.sky,
        ground=scene.ground,
        background=scene.background,
        clouds=scene.clouds,
        celestial=scene.celestial,
        level=scene.horizon,
        rng=np.random.default_rng(scene.seed),
    )
    for thing in scene.things:
        if thing.home != "sky":
            _shadow(canvas, thing, width, height)
        draw_thing(canvas, thing, width, height)
    if scene.sign is not None:
        draw_sign(canvas, scene.sign, width, height)
    pixels = surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)
    return np.ascontiguousarray(pixels[..., :3])


def draw_thing(canvas: skia.Canvas, thing: Thing, width: int, height: int) -> None:
    """Paint one thing into its box on a canvas of the given size."""
    box = thing.box
    w, h = (box.right - box.left) * width, (box.bottom - box.top) * height
    rng = np.random.default_rng(thing.seed)
    look = Look(
        colour=vary(COLOURS[thing.colour], rng),
        parts={part: vary(COLOURS[colour], rng) for part, colour in thing.parts.items()},
        outline=max(0.7, 0.011 * min(width, height)) * float(rng.uniform(0.85, 1.2)),
        rng=rng,
    )
    canvas.save()
    canvas.translate(box.left * width, box.top * height)
    if thing.facing == "left":
        canvas.translate(w, 0)
        canvas.scale(-1, 1)
    KINDS[thing.kind].draw(canvas, w, h, look)
    canvas.restore()


def _shadow(canvas: skia.Canvas, thing: Thing, width: int, height: int) -> None:
    box = thing.box
    w, y = (box.right - box.left) * width, box.bottom * height
    thick = 0.022 * min(width, height)
    left, right = box.left * width + 0.06 * w, box.right * width + 0.04 * w
    paint = skia.Paint(AntiAlias=True, Color4f=colour4((0.05, 0.05, 0.12), 0.26))
    canvas.drawOval(skia.Rect.MakeLTRB(left, y - thick, right, y + thick), paint)


def draw_sign(canvas: skia.Canvas, sign: Sign, width: int, height: int) -> None:
    """A board on a post."""
    box = sign.box
    left, top, right, bottom = box.left * width, box.top * height, box.right * width, box.bottom * height
    fill = skia.Paint(AntiAlias=True, Color4f=colour4(POST))
    middle, half = (left + right) / 2, 0.012 * min(width, height)
    canvas.drawRect(skia.Rect.MakeLTRB(middle - half, top, middle + half, bottom), fill)
    board = skia.Rect.MakeLTRB(left, top, right, top + 0.6 * (bottom - top))
    round = 0.02 * min(width, height)
    canvas.drawRoundRect(board, round, round, skia.Paint(AntiAlias=True, Color4f=colour4(BOARD)))
    edge = skia.Paint(
        AntiAlias=True, Style=skia.Paint.kStroke_Style, StrokeWidth=max(0.7, half * 0.8), Color4f=colour4(ink(BOARD))
    )
    canvas.drawRoundRect(board, round, round, edge)
    draw_word(
        canvas, sign.word, board.makeInset(board.width() * 0.08, board.height() * 0.16), colour4((0.2, 0.12, 0.1))
    )
