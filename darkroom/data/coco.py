"""Boxes of pictures from a file of annotations as COCO and OpenImages in COCO's format have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.errors import InputError, printable
from darkroom.json_file import read_json, real
from darkroom.types import Size

__all__ = ["CocoBoxes", "Listed", "alike", "read_coco"]

LEAST_AREA = 1e-4  # of the picture: smaller objects cannot be seen (papers D.2)

MAX_BYTES = 4 << 30  # COCO's own has half a gigabyte
MAX_SIDE = 1 << 30  # pixels

Box = tuple[int, float, float, float, float, bool]


@dataclass(frozen=True)
class Listed:
    """What the file says of one picture."""

    size: Size
    boxes: tuple[Box, ...]  # class, x0, y0, x1, y1 in shares of the picture, whether it is a group (COCO's crowds)


@dataclass(frozen=True)
class CocoBoxes:
    """`labels`: the names of the classes, numbered from 0 in the order of their numbers in the file. `pictures`: by
    their `file_name`."""

    labels: tuple[str, ...]
    pictures: Mapping[str, Listed]

    def of(self, name: str) -> Listed | None:
        """The picture `name`, which may stand in a folder below; None where the file knows it not."""
        return self.pictures.get(name, self.pictures.get(name.rpartition("/")[2]))


def alike(a: Size, b: Size) -> bool:
    """Whether two sizes have one shape, so that shares of one are shares of the other: a side of b is at most a pixel
    away from that of `a` scaled to it, or a hundredth."""
    expected = a.width * b.height / a.height
    return abs(expected - b.width) <= max(1.0, a.width / a.height, 0.01 * b.width)


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
            found[entry["image_id"]].append((numbers[label], *box, bool(entry.get("iscrowd"))))
    labels = tuple(str(categories[number].get("name", number)) for number in sorted(categories))
    listed = {n: Listed(Size(*_size(image, path)[::-1]), tuple(found[n])) for n, image in images.items()}
    return CocoBoxes(labels, {str(images[n].get("file_name")): pictures for n, pictures in listed.items()})


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
