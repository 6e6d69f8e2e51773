"""WebDataset's shards: tar files in which what belongs together has one name but for the ending."""

from __future__ import annotations

import io
import os
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from darkroom.data.captions import CaptionConfig, all_captions, draw_caption
from darkroom.errors import InputError, cause
from darkroom.input_file import open_input
from darkroom.json_file import parse_json
from darkroom.pictures.reading import ENDINGS, read_pixels, read_size
from darkroom.types import Sample, Size

__all__ = ["Shards", "ShardsConfig"]

CAPTIONS = (".txt", ".caption")
LARGEST_TEXT = 2**20  # bytes of a caption or of a JSON object


@dataclass(frozen=True)
class ShardsConfig:
    """`path`: a tar file, a folder of them, or a pattern such as `data/{0000..0009}.tar`. Uncompressed.

    The caption of `x.jpg` is `x.txt` or `x.caption`, else the value of `caption_key` in `x.json`.
    """

    path: Path
    caption: str | None = None  # where a picture has none; None: all must have one
    caption_key: str = "caption"
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    kind: Literal["shards"] = "shards"


@dataclass(frozen=True)
class _Member:
    """Where a file lies within a shard."""

    shard: int
    offset: int
    length: int


class Shards:
    """Found by one walk over the headers; pictures are then read in any order, from any process."""

    def __init__(self, config: ShardsConfig) -> None:
        self.config = config
        self.paths = _paths(config.path)
        self.groups = [g for shard, path in enumerate(self.paths) for g in _groups(shard, path)]
        if not self.groups:
            raise InputError(f"{config.path} holds no pictures ({', '.join(ENDINGS)})")
        if config.caption is None:
            missing = [name for name, group in self.groups if self._text(name, group) is None]
            if missing:
                raise InputError(
                    f"{len(missing)} of {len(self.groups)} pictures in {config.path} have no caption, the first is "
                    f"{missing[0]}; set data.caption for all that have none"
                )

    def __len__(self) -> int:
        return len(self.groups)

    def name(self, index: int) -> str:
        name, group = self.groups[index]
        return f"{self.paths[_picture(group).shard].name}/{name}"

    def size(self, index: int) -> Size:
        member = _picture(self.groups[index][1])
        return read_size(io.BytesIO(self._bytes(member)), self.name(index))

    def key(self, index: int) -> str:
        member = _picture(self.groups[index][1])
        path = self.paths[member.shard]
        found = path.stat()
        return f"{path.resolve()}|{found.st_size}|{found.st_mtime_ns}|{member.offset}"

    def version(self, index: int) -> str:
        group = self.groups[index][1]
        label = self._bytes(group[".cls"]) if ".cls" in group else None
        return f"{zlib.crc32(self._bytes(_picture(group)))} {self.text(index)} {label}"

    def captions(self, index: int) -> list[str]:
        return all_captions(self.text(index) or "", self.config.captions)

    def sample(self, index: int, rng: np.random.Generator, *, pixels: bool = True) -> Sample:
        name, group = self.groups[index]
        image = read_pixels(io.BytesIO(self._bytes(_picture(group))), self.name(index)) if pixels else None
        conditions: dict[str, Any] = {}
        text = self._text(name, group)
        conditions["caption"] = draw_caption(text or "", self.config.captions, rng)
        if ".cls" in group:
            conditions["class"] = _number(self._bytes(group[".cls"]), self.name(index))
        return Sample(image, conditions, self.size(index) if image is None else Size(*image.shape[:2]))

    def text(self, index: int) -> str | None:
        """What is said of the picture, before a caption is drawn from it."""
        return self._text(*self.groups[index])

    def _text(self, name: str, group: Mapping[str, _Member]) -> str | None:
        where = f"the caption of {name}"
        for ending in CAPTIONS:
            if ending in group:
                return _decoded(self._bytes(group[ending], LARGEST_TEXT, where), where)
        if ".json" in group:
            data = parse_json(self._bytes(group[".json"], LARGEST_TEXT, where), f"{name}.json")
            text = data.get(self.config.caption_key) if isinstance(data, dict) else None
            if isinstance(text, str):
                return text
        return self.config.caption

    def _bytes(self, member: _Member, most: int | None = None, where: str = "") -> bytes:
        if most is not None and member.length > most:
            raise InputError(f"{where} has {member.length} bytes, {most} at most expected")
        path = self.paths[member.shard]
        try:
            with open_input(path) as file:
                file.seek(member.offset)
                data = file.read(member.length)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {cause(error)}") from None
        if len(data) < member.length:
            raise InputError(f"{path} ends in the middle of a file: it is truncated")
        return data


def _picture(group: Mapping[str, _Member]) -> _Member:
    return next(group[ending] for ending in ENDINGS if ending in group)


def _groups(shard: int, path: Path) -> list[tuple[str, dict[str, _Member]]]:
    """(name, files by ending) of each sample with a picture, in the order of their first files."""
    groups: dict[str, dict[str, _Member]] = {}
    try:
        with open_input(path) as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
            # Never compressed: what lies where must be found without unpacking.
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, file = member.name.removeprefix("./").rpartition("/")
                stem, dot, rest = file.partition(".")
                name, ending = f"{folder}/{stem}".lstrip("/"), f"{dot}{rest}".lower()
                group = groups.setdefault(name, {})
                if ending in group:
                    raise InputError(f"{path} holds {member.name} twice")
                if ending in ENDINGS and (other := next((e for e in ENDINGS if e in group), None)) is not None:
                    raise InputError(f"{path} holds {name}{other} and {member.name} under one name: one expected")
                group[ending] = _Member(shard, member.offset_data, member.size)
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as an uncompressed tar file: {error}") from None
    for name, group in groups.items():
        for ending in group if not any(e in group for e in ENDINGS) else ():
            if ending.endswith(ENDINGS):
                key = name.rpartition("/")[2]
                raise InputError(
                    f"{path} holds {name}{ending}: a key ends at the first dot of the file's name, so this is {ending} "
                    f"of {key!r}, expected is {key}{ending[ending.rindex('.') :]}"
                )
    return [(name, group) for name, group in groups.items() if any(e in group for e in ENDINGS)]


def _paths(path: Path) -> list[Path]:
    if os.path.isdir(path):
        found = sorted(path.glob("*.tar"))
    elif match := re.search(r"\{(\d+)\.\.(\d+)\}", str(path)):
        first, last = match.groups()
        numbers = range(int(first), int(last) + 1)
        if len(numbers) > 100_000:
            raise InputError(f"{path} names {len(numbers)} files, 100000 at most expected")
        found = [Path(str(path).replace(match[0], f"{n:0{len(first)}d}")) for n in numbers]
    else:
        found = [path]
    absent = [p for p in found if not os.path.isfile(p)]
    if absent or not found:
        raise InputError(f"there is no file {absent[0]}" if absent else f"{path} holds no .tar files")
    return found


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 text (byte {error.start})") from None


def _number(data: bytes, name: str) -> int:
    if not re.fullmatch(rb"\s*\d{1,9}\s*", data):
        raise InputError(f"the class of {name} is {data[:20]!r}, a whole number expected")
    return int(data)
