"""Data sets of the Hugging Face Hub, or folders that `datasets` saved or reads, through the package `datasets`."""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from darkroom.data.captions import CaptionConfig, all_captions, draw_caption
from darkroom.errors import InputError, cause
from darkroom.input_file import version_of
from darkroom.pictures.reading import read_pixels, read_size
from darkroom.registry import nearest
from darkroom.types import Sample, Size

__all__ = ["Hub", "HubConfig", "is_saved"]

PICTURES = ("image", "img", "jpg", "png", "webp")  # columns, the first that the data set has
CAPTIONS = ("caption", "text", "prompt", "txt")


@dataclass(frozen=True)
class HubConfig:
    """`path`: an id of the Hub such as `owner/name`, a folder that `save_to_disk` wrote, or one of arrow or
    parquet files.
    What was fetched once is read without a network.
    """

    path: str
    name: str | None = None  # of the configuration, for data sets that have several
    split: str = "train"
    revision: str | None = None  # branch, tag or commit, of an id
    image_column: str | None = None  # image, img, jpg, png or webp when not given
    caption_column: str | None = None  # caption, text, prompt or txt when not given
    class_column: str | None = None  # whole numbers; names of a ClassLabel are its numbers
    caption: str | None = None  # where a picture has none; None: all must have one
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    kind: Literal["hub"] = "hub"


class Hub:
    """Rows are read from mapped files in any order and from any process; pictures are decoded here, as all others."""

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        table = _opened(config)
        self.columns = list(table.column_names)
        self.image_column = self._column("image_column", PICTURES)
        if self.image_column is None:
            raise InputError(
                f"{config.path} has no column of pictures ({', '.join(PICTURES)}): name one of its columns "
                f"({', '.join(self.columns)}) in data.image_column"
            )
        self.table = _undecoded(table, self.image_column, config)
        self.pictures = self.table.select_columns([self.image_column])
        self.caption_column = self._column("caption_column", CAPTIONS)
        self.class_column = self._column("class_column", ())
        told = [c for c in (self.caption_column, self.class_column) if c is not None]
        self.told = self.table.select_columns(told)  # without pictures, which need not be read for it
        if not len(self.table):
            raise InputError(f"{config.path} holds no rows in its split {config.split!r}")
        if config.caption is None:
            self._require_captions()
        self.fingerprint = str(
            getattr(table, "_fingerprint", "")
        )  # changes with the rows and all that was done to them

    def __len__(self) -> int:
        return len(self.table)

    def name(self, index: int) -> str:
        return f"row {index}"

    def size(self, index: int) -> Size:
        return read_size(self._picture(index), self.name(index))

    def key(self, index: int) -> str:
        return f"{self.config.path}|{self.config.split}|{self.fingerprint}|{index}"

    def version(self, index: int) -> str:
        picture = self._picture(index)
        held = version_of(picture) if isinstance(picture, Path) else zlib.crc32(picture.getbuffer())
        return f"{held} {self.told[index] if self.told.column_names else {}} {self.config.caption}"

    def captions(self, index: int) -> list[str]:
        return all_captions(self.text(index) or "", self.config.captions)

    def sample(self, index: int, rng: np.random.Generator, *, pixels: bool = True) -> Sample:
        image = read_pixels(self._picture(index), self.name(index)) if pixels else None
        text = self.text(index)
        conditions: dict[str, Any] = {"caption": draw_caption(text or "", self.config.captions, rng)}
        if self.class_column is not None:
            label = self.told[index][self.class_column]
            if not isinstance(label, int) or label < 0:
                raise InputError(f"the {self.class_column} of {self.name(index)} is {label!r}, a whole number expected")
            conditions["class"] = label
        return Sample(image, conditions, self.size(index) if image is None else Size(*image.shape[:2]))

    def text(self, index: int) -> str | None:
        """What is said of the picture, before a caption is drawn from it."""
        if self.caption_column is None:
            return self.config.caption
        return _text(self.told[index][self.caption_column], self.name(index)) or self.config.caption

    def _column(self, key: str, usual: tuple[str, ...]) -> str | None:
        """The column that the recipe names under `key`, else the first of the usual ones that is there."""
        named: str | None = getattr(self.config, key)
        if named is None:
            return next((c for c in usual if c in self.columns), None)
        if named not in self.columns:
            raise InputError(
                f"{self.config.path} has no column {named!r} (data.{key}); known are: "
                f"{', '.join(nearest(named, self.columns))}"
            )
        return named

    def _require_captions(self) -> None:
        if self.caption_column is None:
            raise InputError(
                f"{self.config.path} has no column of captions ({', '.join(CAPTIONS)}): name one of its columns "
                f"({', '.join(self.columns)}) in data.caption_column, or set data.caption for all"
            )
        texts = self.told[:][self.caption_column]
        missing = [i for i, value in enumerate(texts) if not _text(value, f"row {i}")]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(self.table)} rows of {self.config.path} have no {self.caption_column}, the "
                f"first is row {missing[0]}; set data.caption for all that have none"
            )

    def _picture(self, index: int) -> io.BytesIO | Path:
        """The picture's file, as it was stored."""
        found = self.pictures[index][self.image_column]
        if isinstance(found, bytes):
            return io.BytesIO(found)
        if isinstance(found, dict) and found.get("bytes") is not None:
            return io.BytesIO(found["bytes"])
        if isinstance(found, dict) and found.get("path"):
            return Path(found["path"])
        raise InputError(f"the {self.image_column} of row {index} of {self.config.path} holds no picture")


def is_saved(path: Path) -> bool:
    """Whether `save_to_disk` of the package `datasets` wrote the folder at `path`."""
    return any(os.path.isfile(path / name) for name in ("state.json", "dataset_dict.json"))


def _text(value: Any, where: str) -> str:
    """A caption; of several, one a line (`data.captions.lines` draws one of them)."""
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return "\n".join(value)
    if value is None or isinstance(value, str):
        return value or ""
    raise InputError(f"the caption of {where} is {value!r}, a text expected")


def _opened(config: HubConfig) -> Any:
    """The rows of the split. Errors of the package, whose classes are many, become one sentence."""
    try:
        import datasets  # type: ignore[import-untyped]  # optional
    except ImportError:
        raise InputError(
            "data.kind = \"hub\" needs the package datasets: pip install 'darkroom-diffusion[hub]'"
        ) from None
    datasets.disable_progress_bars()
    try:
        if is_saved(Path(config.path)):
            found = datasets.load_from_disk(config.path)
        else:
            found = datasets.load_dataset(config.path, config.name, split=config.split, revision=config.revision)
    except Exception as error:  # of the package, of files and of the network
        raise InputError(f"the data set {config.path} cannot be read: {cause(error)}") from None
    if isinstance(found, dict):  # a folder with all splits
        if config.split not in found:
            known = ", ".join(nearest(config.split, [str(split) for split in found]))
            raise InputError(f"{config.path} has no split {config.split!r}; known are: {known}")
        found = found[config.split]
    return found


def _undecoded(table: Any, column: str, config: HubConfig) -> Any:
    """The rows with pictures as files, which are read here under the same limits as any others."""
    import datasets

    feature = table.features[column]
    if isinstance(feature, datasets.Image):
        return table.cast_column(column, datasets.Image(decode=False))
    held = feature.get("bytes") if isinstance(feature, dict) else feature  # with the path, as the Hub's files have it
    if getattr(held, "dtype", None) in ("binary", "large_binary"):
        return table
    raise InputError(f"the column {column!r} of {config.path} holds {feature}, pictures expected")
