"""Sheets of pictures with words beside them, in Pillow's own font."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from darkroom.pictures.picture_file import LONGEST

__all__ = ["labeled_sheet"]

GAP = 8
LINES = 4  # of a label
LONGEST_SIDE = min(LONGEST.values())
INK, PAPER = (40, 40, 40), (255, 255, 255)


def labeled_sheet(
    pictures: Sequence[np.ndarray], columns: Sequence[str], rows: Sequence[str], blocks: Sequence[str]
) -> np.ndarray:
    """uint8 (H, W, 3). `pictures` uint8 (h, w, 3) of any sizes: block by block, row by row, column by column.

    Labels stand above the columns, left of the rows, and over the blocks, which lie side by side; empty ones take no
    room. Pictures smaller than the largest are centered in their cells. Where the sheet would be larger than what files
    of every format hold, the pictures are made smaller.
    """
    height, width = (max(p.shape[i] for p in pictures) for i in (0, 1))
    letters = max(11, min(28, width // 12))
    pen = _Pen(letters)
    above = max(pen.height(c, width) for c in columns)
    beside = max(pen.width(r, max(width, 12 * letters)) for r in rows)
    title = max(pen.height(b, (width + GAP) * len(columns)) for b in blocks)
    block_width = (width + GAP) * len(columns) + GAP
    size = (beside + block_width * len(blocks), title + above + (height + GAP) * len(rows) + GAP)
    if max(size) > LONGEST_SIDE and max(height, width) > 1:
        smaller = [_shrunk(picture, LONGEST_SIDE / max(size)) for picture in pictures]
        return labeled_sheet(smaller, columns, rows, blocks)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for y, row in enumerate(rows):
        middle = title + above + GAP + y * (height + GAP) + height // 2
        pen.write(draw, row, (beside // 2, middle), max(width, 12 * letters))
    numbered = iter(pictures)
    for z, block in enumerate(blocks):
        left = beside + z * block_width + GAP
        pen.write(draw, block, (left + (block_width - 2 * GAP) // 2, title // 2), (width + GAP) * len(columns))
        for x, column in enumerate(columns):
            pen.write(draw, column, (left + x * (width + GAP) + width // 2, title + above // 2 + GAP // 2), width)
        for y in range(len(rows)):
            for x in range(len(columns)):
                pixels = next(numbered)
                corner = (
                    left + x * (width + GAP) + (width - pixels.shape[1]) // 2,
                    title + above + GAP + y * (height + GAP) + (height - pixels.shape[0]) // 2,
                )
                sheet.paste(Image.fromarray(pixels), corner)
    return np.asarray(sheet)


def _shrunk(pixels: np.ndarray, factor: float) -> np.ndarray:
    """uint8 (h, w, 3) with sides smaller by `factor` at least, and by a pixel."""
    height, width = (max(1, min(side - 1, int(side * factor))) for side in pixels.shape[:2])
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


class _Pen:
    """Centred text that is wrapped to the room it has."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.font = ImageFont.load_default(size)

    def lines(self, text: str, room: int) -> list[str]:
        """`text` broken into lines of at most `room` pixels; what does not fit into the last ends in an ellipsis."""
        lines: list[str] = []
        rest = " ".join(text.split())
        while rest:
            fits = self._fitting(rest, room)
            if len(lines) == LINES - 1 and fits < len(rest):
                return [*lines, rest[: self._fitting(rest, room - int(self.font.getlength("…")))].rstrip() + "…"]
            blank = rest.rfind(" ", 0, fits + 1)
            end = fits if fits == len(rest) or blank <= 0 else blank  # within a word only where it fills the line
            lines.append(rest[:end])
            rest = rest[end:].lstrip()
        return lines

    def _fitting(self, text: str, room: int) -> int:
        """How many of the first characters fit, at least one."""
        count = 1
        while count < len(text) and self.font.getlength(text[: count + 1]) <= room:
            count += 1
        return count

    def height(self, text: str, room: int) -> int:
        count = len(self.lines(text, room))
        return int(1.3 * self.size * count) + GAP if count else 0

    def width(self, text: str, room: int) -> int:
        widths = [int(self.font.getlength(line)) for line in self.lines(text, room)]
        return max(widths) + 2 * GAP if widths else 0

    def write(self, draw: ImageDraw.ImageDraw, text: str, middle: tuple[int, int], room: int) -> None:
        wrapped = "\n".join(self.lines(text, room))
        draw.multiline_text(middle, wrapped, INK, self.font, anchor="mm", align="center", spacing=0.25 * self.size)
