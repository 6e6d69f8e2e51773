"""The kinds of training data that a recipe may name, each by its `kind`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from darkroom.data.dataset import Dataset, Joined
from darkroom.data.folder import Folder, FolderConfig
from darkroom.data.folder_files import passed_over
from darkroom.data.hub import Hub, HubConfig, is_saved
from darkroom.data.kohya import KohyaConfig, open_kohya
from darkroom.data.shards import Shards, ShardsConfig
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.errors import InputError
from darkroom.input_file import entries

__all__ = ["DatasetConfig", "open_dataset", "open_unchecked", "passed_over_in", "remarks"]

DatasetConfig = PictureBookConfig | FolderConfig | KohyaConfig | ShardsConfig | HubConfig


def open_dataset(config: DatasetConfig) -> Dataset:
    """The data set that `config` describes; `InputError` for what is missing or cannot be read."""
    match config:
        case PictureBookConfig():
            return PictureBook(config)
        case FolderConfig():
            folder = Folder(config)
            folder.require_captions()
            return folder
        case KohyaConfig():
            return open_kohya(config)
        case ShardsConfig():
            return Shards(config)
        case HubConfig():
            return Hub(config)


def open_unchecked(path: Path) -> tuple[Dataset, list[str | InputError | None]]:
    """The data set at `path`, whatever its kind, and the text of each picture's caption: None where it has none, an
    error where it cannot be read."""
    if (os.path.isdir(path) and any(path.glob("*.tar"))) or path.suffix == ".tar":
        shards = Shards(ShardsConfig(path, caption=""))
        return shards, [_text_or_error(shards.text, i) for i in range(len(shards))]
    if is_saved(path):
        rows = Hub(HubConfig(str(path), caption=""))
        return rows, [_text_or_error(rows.text, i) for i in range(len(rows))]
    numbered, others = _numbered(path)
    if path.suffix == ".toml" or (numbered and not others):
        joined = open_kohya(KohyaConfig(path), once=True)
        return joined, [text for folder in _folders(joined) for text in _texts(folder)]
    folder = Folder(FolderConfig(path))
    return folder, _texts(folder)


def passed_over_in(dataset: Dataset) -> str | None:
    """In one line, what lies in the folders of `dataset` and is passed over though it looks like pictures."""
    return passed_over(folder.files for folder in _folders(dataset))


def remarks(path: Path, dataset: Dataset) -> list[str]:
    """What should be known of how `open_unchecked` took `path` for `dataset`, a sentence each."""
    found = []
    if isinstance(dataset, Folder):
        numbered, others = _numbered(path)
        if numbered and others:
            found.append(
                f"read as one folder, each picture once: {numbered[0]} is named as kohya's N_class, but {others[0]} is "
                "not; where N is meant to count, rename or move what is not named so"
            )
    if (told := passed_over_in(dataset)) is not None:
        found.append(told)
    return found


def _numbered(path: Path) -> tuple[list[str], list[str]]:
    """The folders in `path` that are named as kohya's `N_class`, and the others that are not hidden."""
    names = [p.name for p in entries(path) if os.path.isdir(p)] if os.path.isdir(path) else []
    visible = sorted(name for name in names if not name.startswith("."))
    numbered = [name for name in visible if re.match(r"\d+_", name)]
    return numbered, [name for name in visible if name not in numbered]


def _folders(dataset: Dataset) -> Iterator[Folder]:
    """The folders of pictures that `dataset` is made of."""
    if isinstance(dataset, Folder):
        yield dataset
    elif isinstance(dataset, Joined):
        for part in dataset.parts:
            yield from _folders(part)


def _texts(folder: Folder) -> list[str | InputError | None]:
    return [folder.caption_faults.get(i, text) for i, text in enumerate(folder.texts)]


def _text_or_error(text: Callable[[int], str | None], index: int) -> str | InputError | None:
    try:
        return text(index) or None
    except InputError as error:
        return error
