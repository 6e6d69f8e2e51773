"""The kinds of training data that a recipe may name, each by its `kind`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from darkroom.data.dataset import Dataset
from darkroom.data.folder import Folder, FolderConfig
from darkroom.data.hub import Hub, HubConfig, is_saved
from darkroom.data.kohya import KohyaConfig, open_kohya
from darkroom.data.shards import Shards, ShardsConfig
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.errors import InputError
from darkroom.input_file import entries

__all__ = ["DatasetConfig", "open_dataset", "open_unchecked"]

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
    numbered = [p for p in entries(path) if os.path.isdir(p)] if os.path.isdir(path) else []
    if path.suffix == ".toml" or (numbered and all(re.match(r"\d+_", p.name) for p in numbered)):
        joined = open_kohya(KohyaConfig(path), once=True)
        folders = [part for part in joined.parts if isinstance(part, Folder)]
        return joined, [text for folder in folders for text in _texts(folder)]
    folder = Folder(FolderConfig(path))
    return folder, _texts(folder)


def _texts(folder: Folder) -> list[str | InputError | None]:
    return [folder.caption_faults.get(i, text) for i, text in enumerate(folder.texts)]


def _text_or_error(text: Callable[[int], str | None], index: int) -> str | InputError | None:
    try:
        return text(index) or None
    except InputError as error:
        return error
