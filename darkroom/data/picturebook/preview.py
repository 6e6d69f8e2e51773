"""A contact sheet: scenes with captions, boxes and maps drawn in."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from darkroom.data.picturebook.caption import describe
from darkroom.data.picturebook.colours import COLOURS
from darkroom.data.picturebook.render import render
from darkroom.data.picturebook.scene import sample_scene
from darkroom.data.picturebook.truth import SEMANTIC_CLASSES, GroundTruth, ground_truth
from darkroom.errors import InputError

__all__ = ["contact_sheet", "write_sheet"]

PAPER, INK = (250, 247, 240), (60, 45, 40)


def contact_sheet(count: int, width: int, height: int, seed: int, *, maps: bool) -> Image.Image:
    """`count` scenes of width × height pixels; with `maps` each beside its boxes, instances, classes and depth."""
    panels = 5 if maps else 1
    columns = 1 if maps else max(1, min(count, round(1280 / (width + 8))))
    font = ImageFont.load_default(12)
    lines = max(2, -(-len("a" * 110) * 7 // (panels * width)))
    cell_w, cell_h = panels * (width + 8), height + 8 + 15 * lines
    sheet = Image.new("RGB", (columns * cell_w + 8, -(-count // columns) * cell_h + 8), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        scene = sample_scene(rng, aspect=width / height, split="any")
        caption, _ = describe(scene, rng)
        picture = render(scene, width, height)
        x, y = 8 + (i % columns) * cell_w, 8 + (i // columns) * cell_h
        tiles = [picture]
        if maps:
            truth = ground_truth(scene, width, height)
            tiles += [_boxes(picture, truth, font), *_maps(truth)]
        for k, tile in enumerate(tiles):
            sheet.paste(Image.fromarray(tile), (x + k * (width + 8), y))
        wrapped = textwrap.wrap(caption, max(12, panels * width // 7))[:lines]
        draw.multiline_text((x, y + height + 2), "\n".join(wrapped), INK, font, spacing=2)
    return sheet


def _boxes(picture: np.ndarray, truth: GroundTruth, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> np.ndarray:
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for thing in truth.things:
        top, left, bottom, right = thing.box
        if bottom == 0:
            continue
        draw.rectangle((left, top, right - 1, bottom - 1), outline=(255, 60, 60))
        label = f"{thing.colour} {thing.kind}"
        draw.rectangle(draw.textbbox((left + 1, top), label, font), fill=(255, 255, 255))
        draw.text((left + 1, top), label, INK, font)
    return np.asarray(image)


def _maps(truth: GroundTruth) -> list[np.ndarray]:
    paints = np.array([(230, 230, 235), *[tuple(round(255 * v) for v in c) for c in COLOURS.values()]], np.uint8)
    instances = paints[truth.instances % len(paints)]
    hues = np.random.default_rng(7).integers(40, 235, (len(SEMANTIC_CLASSES), 3)).astype(np.uint8)
    depth = (truth.depth[..., None] * 255).round().astype(np.uint8).repeat(3, axis=2)
    return [instances, hues[truth.semantic], depth]


def write_sheet(path: Path, sheet: Image.Image) -> None:
    """As PNG, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    try:
        sheet.save(fresh, format="PNG")
        os.replace(fresh, path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise InputError(f"the sheet cannot be written to {path}: {error.strerror}") from None
