"""A contact sheet: scenes with captions, boxes and maps drawn in."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from darkroom.data.picturebook.caption import describe
from darkroom.data.picturebook.colours import COLOURS
from darkroom.data.picturebook.render import render
from darkroom.data.picturebook.scene import sample_scene
from darkroom.data.picturebook.truth import SEMANTIC_CLASSES, GroundTruth, ground_truth
from darkroom.errors import InputError

__all__ = ["contact_sheet", "picture_format"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER, INK, FRAME = (250, 247, 240), (60, 45, 40), (226, 60, 60)
PANELS = ("picture", "boxes", "things", "classes", "depth")
FORMATS = {"": "PNG", ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
QUICK = 2**21  # pixels that are drawn in about a second
GAP, LINE, SHEET_WIDTH, MOST_PIXELS = 8, 15, 1280, 2**27


def contact_sheet(count: int, width: int, height: int, seed: int, *, maps: bool) -> Image.Image:
    """`count` scenes of width × height pixels; with `maps` each beside its boxes, instances, classes and depth."""
    if seed < 0:
        raise InputError(f"the seed is {seed}, expected is 0 or more")
    panels = len(PANELS) if maps else 1
    cell_width = panels * (width + GAP)
    rows = -(-count // (1 if maps else max(1, round(SHEET_WIDTH / cell_width))))
    columns = -(-count // rows)  # the last row as full as the others, if it can be
    if columns * cell_width * rows * height > MOST_PIXELS:
        raise InputError(
            f"a sheet of {count} scenes of {width}x{height} is too large; {MOST_PIXELS // 2**20} million pixels "
            f"hold {MOST_PIXELS // (cell_width * height)} of them"
        )
    scenes = []
    font = ImageFont.load_default(12)
    for i in track(range(count), "drawing", transient=True, disable=count * width * height < QUICK):
        rng = np.random.default_rng((seed, i))
        scene = sample_scene(rng, aspect=width / height, split="any")
        caption, _ = describe(scene, rng)
        tiles = [render(scene, width, height)]
        if maps:
            truth = ground_truth(scene, width, height)
            tiles += [_boxes(tiles[0], truth), *_maps(truth)]
        scenes.append((tiles, _wrap(caption, font, cell_width - GAP)))
    head = LINE + GAP // 2 if maps else 0
    tops = [GAP + head]
    for row in range(rows):  # each as high as its longest caption asks
        lines = max(len(text) for _, text in scenes[row * columns : (row + 1) * columns])
        tops.append(tops[-1] + height + LINE * lines + 2 * GAP)
    sheet = Image.new("RGB", (columns * cell_width + GAP, tops[-1]), PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, name in enumerate(PANELS if maps else ()):
        draw.text((GAP + k * (width + GAP), GAP // 2), name, INK, font)
    for i, (tiles, text) in enumerate(scenes):
        x, y = GAP + i % columns * cell_width, tops[i // columns]
        for k, tile in enumerate(tiles):
            sheet.paste(Image.fromarray(tile), (x + k * (width + GAP), y))
        draw.multiline_text((x, y + height + 2), "\n".join(text), INK, font, spacing=LINE - 12)
    return sheet


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Lines of at most `width` pixels, where words allow."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _boxes(picture: np.ndarray, truth: GroundTruth) -> np.ndarray:
    """The picture with a frame and a name around each thing; names above or below their frames where there is room."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12 if min(image.size) >= 192 else 9)
    for thing in truth.things:
        top, left, bottom, right = thing.box
        if bottom == 0:
            continue
        draw.rectangle((left, top, right - 1, bottom - 1), outline=FRAME)
        label = f"{thing.colour} {thing.kind}"
        _, _, wide, high = draw.textbbox((0, 0), label, font)
        x = max(0, min(left, image.width - round(wide) - 3))
        over, under = top - round(high) - 2, bottom
        y = over if over >= 0 else under if under + high + 2 <= image.height else top
        draw.rectangle((x, y, x + wide + 2, y + high + 1), fill=FRAME)
        draw.text((x + 1, y), label, (255, 255, 255), font)
    return np.asarray(image)


def _maps(truth: GroundTruth) -> list[np.ndarray]:
    """Instances and classes in colours of their own, depth from black to white."""
    paints = np.array([(236, 234, 228), *[tuple(round(255 * v) for v in c) for c in COLOURS.values()]], np.uint8)
    depth = (truth.depth[..., None] * 255).round().astype(np.uint8).repeat(3, axis=2)
    return [paints[truth.instances % len(paints)], _class_paints()[truth.semantic], depth]


def _class_paints() -> np.ndarray:
    """uint8 (classes, 3): the backdrop pale, kinds in hues that lie a golden section apart."""
    backdrop = {"sky": (0.80, 0.88, 0.94), "background": (0.66, 0.72, 0.78), "ground": (0.84, 0.80, 0.70)}
    hues = [
        backdrop.get(name, colorsys.hsv_to_rgb(i * 0.618 % 1, 0.75, (0.85, 0.6)[i % 2]))
        for i, name in enumerate(SEMANTIC_CLASSES)
    ]
    return (np.array(hues) * 255).round().astype(np.uint8)


def picture_format(path: Path) -> str:
    """What PIL calls the format that `path`'s ending asks for; PNG when it has none."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise InputError(f"{path} ends in {path.suffix!r}, a picture ends in {', '.join(e for e in FORMATS if e)}")
    return FORMATS[ending]
