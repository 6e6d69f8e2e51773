"""The pictures of a study: folders' paired by name, or drawn by models; kept without a word of who drew them."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from darkroom.errors import InputError
from darkroom.evaluation.study.design import Exhibit, Item
from darkroom.input_file import read_bytes
from darkroom.pictures.reading import ENDINGS, read_pixels
from darkroom.types import Request
from darkroom.whole_file import made_folder, whole_file

if TYPE_CHECKING:
    from darkroom.evaluation.drawn import Draws

__all__ = ["Candidate", "Collection", "candidate", "folder_items", "is_folder", "named_pictures", "requests_of"]

MAX_PICTURE = 1 << 30  # bytes; four times as many pixels as are read

OF_MODELS = ("system.json", "model_index.json", "export")  # what folders of models and runs hold
TILES = 6  # a side; a picture taken apart


@dataclass(frozen=True)
class Candidate:
    """A folder of pictures, or a model with settings of its own (`picturebook,steps=4`)."""

    name: str
    source: str
    settings: Mapping[str, Any]


def candidate(text: str) -> Candidate:
    """What `text` on the command line names."""
    from darkroom.requests.settings import find_setting

    if os.path.isdir(text) or "=" not in text:
        return Candidate(text, text, {})
    source, *changes = text.split(",")
    settings: dict[str, Any] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise InputError(f"{text}: {change!r} is no setting, expected is NAME=VALUE")
        setting = find_setting(name)
        settings[setting.path] = setting.read(value, name)
    return Candidate(text, source, settings)


def is_folder(entry: Candidate) -> bool:
    """Whether it is a folder of pictures, not of a model or a run."""
    folder = Path(entry.source)
    return os.path.isdir(folder) and not any(os.path.exists(folder / name) for name in OF_MODELS)


def named_pictures(folder: Path) -> dict[str, Path]:
    """The pictures in and below `folder` by their names without endings; `InputError` where two share one."""
    found: dict[str, Path] = {}
    for path in sorted(_pictures(folder)):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{folder} holds {found[name].name} and {path.name}: which of them is {name}?")
        found[name] = path
    return found


def folder_items(folders: Sequence[Path], prompts: Sequence[Item] = ()) -> tuple[list[Item], int]:
    """What all `folders` hold under one name, and how many names not all of them have.

    Prompts are those of `prompts`, in the order of names, or stand in the pictures themselves.
    """
    tables = [named_pictures(f) for f in folders]
    shared = [n for n in tables[0] if all(n in t for t in tables)]
    if not shared:
        raise InputError(f"no picture has the same name in {', '.join(map(str, folders))}")
    if prompts and len(prompts) != len(shared):
        raise InputError(f"there are {len(prompts)} prompts for {len(shared)} pictures")
    rest = len(set().union(*tables)) - len(shared)
    if prompts:
        return [replace(item, name=name) for name, item in zip(shared, prompts)], rest
    return [Item(n, _prompt([t[n] for t in tables])) for n in shared], rest


class Collection:
    """The pictures in the folder of a study: `pictures/CANDIDATE/ITEM.png`, by their numbers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pictures"

    def path(self, candidate: int, item: int) -> Path:
        return self.folder / str(candidate) / f"{item:05d}.png"

    def missing(self, candidate: int, items: int) -> list[int]:
        """The items that have no picture of `candidate` yet."""
        return [i for i in range(items) if not os.path.isfile(self.path(candidate, i))]

    def put(self, candidate: int, item: int, pixels: np.ndarray) -> None:
        """Keep uint8 (H, W, 3) as PNG, without any text."""
        path = self.path(candidate, item)
        made_folder(path.parent)
        with whole_file(path) as file:
            Image.fromarray(pixels).save(file, format="PNG")

    def png(self, exhibit: Exhibit) -> bytes:
        """The bytes of a picture as it is shown."""
        path = self.path(exhibit.candidate, exhibit.item)
        if not exhibit.damaged:
            return read_bytes(path, MAX_PICTURE)
        file = io.BytesIO()
        Image.fromarray(_apart(read_pixels(path), exhibit.item)).save(file, format="PNG")
        return file.getvalue()

    def take_folder(self, candidate: int, items: Sequence[Item], folder: Path) -> None:
        """Read the pictures of a folder in."""
        found = named_pictures(folder)
        for item in self.missing(candidate, len(items)):
            self.put(candidate, item, read_pixels(found[items[item].name]))

    def check(self, entries: Sequence[Candidate], items: Sequence[Item]) -> None:
        """`InputError` where a model is not there or cannot be asked for an item."""
        from darkroom.checkpoints.locate import locate

        for entry in entries:
            if not is_folder(entry):
                locate(entry.source)
                requests_of(entry, items, range(len(items)))

    def draw(
        self,
        entries: Sequence[Candidate],
        items: Sequence[Item],
        load: Callable[[str], Draws],
        say: Callable[[str], None],
    ) -> None:
        """What models have not drawn yet, each taken from `load` once; seeds count up from item to item."""
        models: dict[str, list[int]] = {}
        for number, entry in enumerate(entries):
            if not is_folder(entry) and self.missing(number, len(items)):
                models.setdefault(entry.source, []).append(number)
        for source, numbers in models.items():
            pipeline = load(source)
            for number in numbers:
                left = self.missing(number, len(items))
                say(f"{entries[number].name} draws {len(left)} pictures")
                for event in pipeline.run(requests_of(entries[number], items, left)):
                    if isinstance(event, tuple):
                        self.put(number, left[event[0]], event[1].pixels)


def requests_of(entry: Candidate, items: Sequence[Item], numbers: Sequence[int]) -> list[Request]:
    """For the items of these numbers; seeds count up from item to item."""
    from darkroom.requests.change import changed

    base = changed(Request(), entry.settings)
    return [changed(base, {"seed": base.seed + i, **items[i].settings, "prompt": items[i].prompt}) for i in numbers]


def _pictures(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and os.path.isfile(p))


def _prompt(paths: Sequence[Path]) -> str:
    """What the pictures themselves say, if all say the same."""
    from darkroom.requests.records import read_picture

    found = set()
    for path in paths:
        try:
            found.add(read_picture(path).request.prompt)
        except InputError:
            return ""
    return found.pop() if len(found) == 1 else ""


def _apart(pixels: np.ndarray, seed: int) -> np.ndarray:
    """The picture's tiles in another order: as many colors, and nothing to be seen."""
    high, wide = (max(1, side // TILES) for side in pixels.shape[:2])
    places = [(y * high, x * wide) for y in range(pixels.shape[0] // high) for x in range(pixels.shape[1] // wide)]
    moved = random.Random(seed).sample(places, len(places))
    result = pixels.copy()
    for (y, x), (v, u) in zip(places, moved):
        result[y : y + high, x : x + wide] = pixels[v : v + high, u : u + wide]
    return result
