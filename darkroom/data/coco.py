"""Boxes of pictures from a file of annotations as COCO and OpenImages in COCO's format have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.errors import InputError, printable
from darkroom.json_file import read_json, real

__all__ = ["CocoBoxes", "read_coco"]

LEAST_AREA = 1e-4  # of the picture: smaller objects cannot be seen (papers D.2)

MAX_BYTES = 4 << 30  # COCO's own has half a gigabyte
MAX_SIDE = 1 << 30  # pixels

Box = tuple[int, float, float, float, float]


@dataclass(frozen=True)
class CocoBoxes:
    """`labels`: the names of the classes, numbered from 0 in the order of their numbers in the file. `boxes`: (class,
    x0, y0, x1, y1) in shares of the picture, by the picture's `file_name`."""

    labels: tuple[str, ...]
    boxes: Mapping[str, tuple[Box, ...]]

    def of(self, name: str) -> tuple[Box, ...] | None:
        """Those of the picture `name`, which may stand in a folder below; None where the file knows it not."""
        return self.boxes.get(name, self.boxes.get(name.rpartition("/")[2]))


def read_coco(path: Path) -> CocoBoxes:
    """The boxes in the file at `path`; `InputError` names the file and the entry that is wrong."""
    data = read_json(path, MAX_BYTES)
    images, categories = _by_number(data, "images", path), _by_number(data, "categories", path)
    numbers = {number: i for i, number in enumerate(sorted(categories))}
    found: dict[int, list[Box]] = {number: [] for number in images}
    for i, entry in enumerate(_entries(data, "annotations", path)):
        where = f"{path}: annotations[{i}]"
        image, label = images.get(_whole(entry, "image_id", where)), _whole(entry, "category_id", where)
        if image is None or label not in numbers:
            raise InputError(f"{where} is of a picture or a category that the file does not list")
        box = _shares(entry.get("bbox"), _size(image, path), where)
        if (box[2] - box[0]) * (box[3] - box[1]) >= LEAST_AREA:
            found[entry["image_id"]].append((numbers[label], *box))
    names = {number: str(image.get("file_name")) for number, image in images.items()}
    labels = tuple(str(categories[number].get("name", number)) for number in sorted(categories))
    return CocoBoxes(labels, {names[number]: tuple(boxes) for number, boxes in found.items()})


def _entries(data: Mapping[str, Any], key: str, path: Path) -> list[Mapping[str, Any]]:
    entries = data.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: {key} is missing: a list of tables expected, as in COCO's annotations")
    return entries


def _by_number(data: Mapping[str, Any], key: str, path: Path) -> dict[int, Mapping[str, Any]]:
    return {_whole(entry, "id", f"{path}: {key}[{i}]"): entry for i, entry in enumerate(_entries(data, key, path))}


def _whole(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{where}.{key} is {value!r}, a whole number expected")
    return value


def _size(image: Mapping[str, Any], path: Path) -> tuple[int, int]:
    where = f"{path}: the picture {image.get('file_name')!r}"
    width, height = _whole(image, "width", where), _whole(image, "height", where)
    if not 1 <= min(width, height) <= max(width, height) <= MAX_SIDE:
        raise InputError(f"{where} is {printable(f'{width}x{height}')}, sides of 1 to {MAX_SIDE} expected")
    return width, height


def _shares(box: Any, size: tuple[int, int], where: str) -> tuple[float, float, float, float]:
    """COCO's left, top, width and height in pixels as corners in shares, within the picture."""
    numbers = [real(v) for v in box] if isinstance(box, list) and len(box) == 4 else [None]
    if None in numbers:
        raise InputError(f"{where}.bbox is {box!r}, expected are left, top, width and height in pixels")
    left, top, width, height = (float(v or 0) for v in numbers)
    corners = (left / size[0], top / size[1], (left + width) / size[0], (top + height) / size[1])
    x0, y0, x1, y1 = (min(max(v, 0.0), 1.0) for v in corners)
    return x0, y0, max(x0, x1), max(y0, y1)
