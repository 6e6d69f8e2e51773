"""A folder of pictures with what is known of them beside: captions, classes, boxes, maps, masks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from darkroom.data.captions import CaptionConfig, all_captions, draw_caption
from darkroom.data.coco import alike, read_coco
from darkroom.data.folder_files import folder_files, passed_over, plain
from darkroom.data.metadata import FILE_COLUMN
from darkroom.errors import InputError, cause, printable, require
from darkroom.input_file import read_text, version_of
from darkroom.json_file import read_json, real
from darkroom.pictures.reading import ENDINGS, read_classes, read_depth, read_mask, read_pixels, read_size
from darkroom.registry import nearest
from darkroom.types import Sample, Size

__all__ = ["Folder", "FolderConfig"]

CAPTION_COLUMNS = ("caption", "text", "prompt")  # of a table, the first that it has
MAX_CAPTION = 1 << 20  # bytes of a file beside a picture
TWINS = (".txt", ".caption")
ROW = ".json"  # beside a picture: an object with what a table's row would say
LONGEST_NUMBER = 9  # digits of a class; longer ones are names
MAPS = ("segmentation", "depth", "mask", "loss_mask")  # keys whose folders hold a picture for each picture


@dataclass(frozen=True)
class FolderConfig:
    """Pictures in `path` and below, in the order of their names.

    The caption of a picture is its twin's (`cat.txt`, `cat.jpg.txt` or `.caption` beside `cat.jpg`), else its row's in
    a table `metadata.jsonl`, `.csv` or `.parquet` in its folder or one above it or in `cat.json` or `cat.jpg.json`,
    else `caption`. Maps lie in folders of their own under the picture's name.
    """

    path: Path
    list: Path | None = None  # a file of names, one a line, that alone are read; `darkroom data check` writes such
    caption: str | None = None  # where a picture has none; None: all must have one
    caption_extension: str | None = None  # of the twins, .txt or .caption when not given
    caption_column: str | None = None  # of the table; caption, text or prompt when not given
    class_column: str | None = None  # numbers or names; names are numbered in alphabetical order
    folder_classes: bool = False  # the class is the name of the folder directly under `path`
    aesthetic_column: str | None = None  # scores, which SDXL's refiner reads
    boxes: Path | None = None  # annotations as COCO has them: JSON with images, annotations, categories
    segmentation: Path | None = None  # class numbers, one channel
    depth: Path | None = None  # one channel, larger is nearer
    mask: Path | None = None  # what to repaint is bright
    loss_mask: Path | None = None  # what counts in the loss is bright
    unmasked_weight: float = 0.0  # what the rest counts
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    kind: Literal["folder"] = "folder"

    def __post_init__(self) -> None:
        require(0 <= self.unmasked_weight <= 1, "unmasked_weight", self.unmasked_weight, "a share from 0 to 1")
        both = self.folder_classes and self.class_column is not None
        ending = self.caption_extension
        named = ending is None or (re.fullmatch(r"\.?\w[\w.+-]{0,30}", ending) is not None and ending[-1] != ".")
        require(named, "caption_extension", printable(ending), "an ending such as .txt")
        require(not both, "class_column", self.class_column, "nothing beside folder_classes = true")


class Folder:
    """Reads everything but the pictures when it is made, so that what is missing is said before the first step."""

    def __init__(self, config: FolderConfig) -> None:
        self.config = config
        self.files = folder_files(config.path, (*_twin_endings(config), ROW), _map_folders(config))
        self.names = list(self.files.pictures)
        if config.list is not None:
            self.names = _listed(config.list, self.names)
        if not self.names:
            more = f"; {told}" if (told := passed_over([self.files])) is not None else ""
            raise InputError(f"{config.path} holds no pictures ({', '.join(ENDINGS)}){more}")
        self.rows = self.files.rows()
        self._check_columns()
        self.caption_faults: dict[int, InputError] = {}
        self.texts = self._texts()
        self.classes, self.labels = self._classes()
        self.scores = self._scores()
        self.boxes = self._boxes()
        self._check_maps()

    def require_captions(self) -> None:
        """`InputError` if pictures have no caption, or one that cannot be read."""
        if self.caption_faults:
            first, *more = self.caption_faults.values()
            raise InputError(f"{first}; {len(more)} more captions cannot be read" if more else str(first))
        missing = [name for name, text in zip(self.names, self.texts) if text is None]
        if missing:
            columns = sorted({str(c) for row in self.rows.values() for c in row} - {FILE_COLUMN})
            named = (
                f", name one of the table's columns ({', '.join(columns)}) in data.caption_column" if columns else ""
            )
            raise InputError(
                f"{len(missing)} of {len(self.names)} pictures in {self.config.path} have no caption, the first is "
                f"{missing[0]}: write .txt files beside them{named}, or set data.caption for all that have none"
            )

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def path(self, index: int) -> Path:
        return self.config.path / self.names[index]

    def size(self, index: int) -> Size:
        return read_size(self.path(index))

    def key(self, index: int) -> str:
        path = self.path(index)
        try:
            found = path.stat()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {cause(error)}; it was there when the run began") from None
        return f"{path.resolve()}|{found.st_size}|{found.st_mtime_ns}"

    def version(self, index: int) -> str:
        config, name = self.config, self.names[index]
        folders: list[Path | None] = [getattr(config, key) for key in MAPS]
        files = [self.path(index), *(self._map(folder, name) for folder in folders if folder is not None)]
        told = [values[index] if values else None for values in (self.texts, self.labels, self.scores, self.boxes)]
        return f"{[version_of(file) for file in files]} {told}"

    def captions(self, index: int) -> list[str]:
        return all_captions(self.texts[index] or "", self.config.captions)

    def sample(self, index: int, rng: np.random.Generator, *, pixels: bool = True) -> Sample:
        config, name = self.config, self.names[index]
        image = read_pixels(self.path(index)) if pixels else None
        size = self.size(index) if image is None else Size(*image.shape[:2])
        text = self.texts[index]
        conditions: dict[str, Any] = {"caption": draw_caption(text or "", config.captions, rng)}
        if self.labels is not None:
            conditions["class"] = self.labels[index]
        if self.scores is not None:
            conditions["aesthetic_score"] = self.scores[index]
        if self.boxes is not None:
            conditions["boxes"] = self.boxes[index]
        if config.segmentation is not None:
            conditions["segmentation"] = read_classes(self._map(config.segmentation, name))
        if config.depth is not None:
            conditions["depth"] = read_depth(self._map(config.depth, name))
        if config.mask is not None:
            conditions["mask"] = read_mask(self._map(config.mask, name))
        loss_mask = None
        if config.loss_mask is not None:
            counted = read_mask(self._map(config.loss_mask, name)).astype(np.float32)
            loss_mask = counted + config.unmasked_weight * (1 - counted)
        for key, value in (*conditions.items(), ("loss_mask", loss_mask)):
            if isinstance(value, np.ndarray):
                _require_size(key, name, Size(*value.shape[:2]), size)
        return Sample(image, conditions, size, loss_mask=loss_mask)

    def _check_maps(self) -> None:
        """Every picture has each kind of map, of its own size."""
        for key in MAPS:
            folder: Path | None = getattr(self.config, key)
            if folder is None:
                continue
            if not os.path.isdir(folder):
                raise InputError(f"there is no folder {folder}, data.{key} of the pictures in {self.config.path}")
            for index, name in enumerate(self.names):
                found = read_size(self._map(folder, name))
                try:
                    size = self.size(index)
                except InputError:  # such pictures are named and left out when the buckets are filled
                    continue
                _require_size(key, name, found, size)

    def _map(self, folder: Path, name: str) -> Path:
        found = [p for ending in ENDINGS if os.path.isfile(p := (folder / name).with_suffix(ending))]
        if len(found) != 1:
            which = " and ".join(p.name for p in found) or "nothing"
            raise InputError(f"one picture expected for {name} in {folder}, there is {which}")
        return found[0]

    def _check_columns(self) -> None:
        """`InputError` for columns that no table has, nor JSON beside a picture."""
        expected = _columns(self.config)
        rows = [self._row(name) for name in self.names] if expected else []
        columns = sorted({str(c) for row in (*self.rows.values(), *rows) for c in row})
        for column in expected:
            if not columns:
                raise InputError(f"{self.config.path} has no table with the column {column!r}")
            if column not in columns:
                where = self.files.tables[0] if len(self.files.tables) == 1 else f"no table in {self.config.path}"
                known = ", ".join(nearest(column, columns))
                raise InputError(f"{where} has no column {column!r}; known are: {known}")

    def _texts(self) -> list[str | None]:
        """The text of each picture, None where it has none; what is wrong with others is kept in `caption_faults`."""
        found: list[str | None] = []
        for index, name in enumerate(self.names):
            try:
                found.append(self._text(name))
            except InputError as error:
                found.append(None)
                self.caption_faults[index] = error
        return found

    def _text(self, name: str) -> str | None:
        if (twin := self.files.twin(name, _twin_endings(self.config))) is not None:
            return read_text(self.config.path / twin, MAX_CAPTION)
        row = self._row(name)
        column = self.config.caption_column or next((c for c in CAPTION_COLUMNS if c in row), None)
        text = None if column is None else row.get(column)
        if text is not None and not isinstance(text, str):
            raise InputError(f"the {column} of {name} is {text!r}, a text expected")
        return self.config.caption if text is None else text

    def _row(self, name: str) -> Mapping[str, Any]:
        """What a table says of the picture, else the JSON beside it."""
        if (row := self.rows.get(plain(name))) is None:
            twin = self.files.twin(name, (ROW,))
            row = self.rows[plain(name)] = {} if twin is None else read_json(self.config.path / twin)
        return row

    def _classes(self) -> tuple[tuple[str, ...], list[int] | None]:
        """Names of the classes, and each picture's number; none where the pictures have no classes."""
        config = self.config
        if config.folder_classes:
            found = [name.partition("/")[0] if "/" in name else None for name in self.names]
        elif config.class_column is not None:
            found = [self._row(name).get(config.class_column) for name in self.names]
        else:
            return (), None
        for name, label in zip(self.names, found):
            if label is None or label == "":
                raise InputError(f"{name} has no class")
        if all(str(label).isdecimal() and len(str(label)) <= LONGEST_NUMBER for label in found):
            return (), [int(str(label)) for label in found]
        names = tuple(sorted({str(label) for label in found}))
        numbers = {name: i for i, name in enumerate(names)}
        return names, [numbers[str(label)] for label in found]

    def _scores(self) -> list[float] | None:
        column = self.config.aesthetic_column
        if column is None:
            return None
        found = [real(self._row(name).get(column)) for name in self.names]
        if None in found:
            raise InputError(f"the {column} of {self.names[found.index(None)]} is no number")
        return [float(score or 0) for score in found]

    def _boxes(self) -> list[tuple[Any, ...]] | None:
        """Each picture's boxes; a picture that the annotations do not list is an error, one without objects is none."""
        path = self.config.boxes
        if path is None:
            return None
        annotations = read_coco(path)
        found = [annotations.of(name) for name in self.names]
        absent = [name for name, listed in zip(self.names, found) if listed is None]
        if absent:
            raise InputError(f"{path} does not list {len(absent)} of the pictures, the first is {absent[0]}")
        for index, listed in enumerate(found):
            try:
                size = self.size(index)
            except InputError:  # such pictures are named and left out when the buckets are filled
                continue
            assert listed is not None, "none is absent"
            if not alike(listed.size, size):
                told = f"the boxes of {self.names[index]} are of a picture of {listed.size} pixels, it has {size}"
                raise InputError(f"{path}: {told}: the same shape expected")
        return [listed.boxes if listed is not None else () for listed in found]


def _require_size(key: str, name: str, found: Size, size: Size) -> None:
    if found != size:
        raise InputError(f"the {key} of {name} is {found} pixels, the picture is {size}")


def _columns(config: FolderConfig) -> list[str]:
    """The columns of the table that must be there."""
    return [c for c in (config.caption_column, config.class_column, config.aesthetic_column) if c is not None]


def _map_folders(config: FolderConfig) -> set[str]:
    """Folders of maps within the folder of pictures hold no pictures to train on."""
    given: list[Path | None] = [getattr(config, key) for key in MAPS]
    return {os.path.realpath(path) for path in given if path is not None}


def _twin_endings(config: FolderConfig) -> tuple[str, ...]:
    return TWINS if config.caption_extension is None else (f".{config.caption_extension.lstrip('.')}",)


def _listed(path: Path, names: list[str]) -> list[str]:
    """Those of `names` that the file at `path` lists."""
    listed = {line for line in read_text(path).split("\n") if line.strip()}
    absent = sorted(listed - set(names))
    if absent:
        raise InputError(f"{path} lists {len(absent)} pictures that are not there, the first is {absent[0]}")
    return [name for name in names if name in listed]
