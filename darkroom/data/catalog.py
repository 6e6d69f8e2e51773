"""The kinds of training data that a recipe may name, each by its `kind`."""

from __future__ import annotations

from darkroom.data.dataset import Dataset
from darkroom.data.folder import Folder, FolderConfig
from darkroom.data.source import PictureBook, PictureBookConfig

__all__ = ["DatasetConfig", "open_dataset"]

DatasetConfig = PictureBookConfig | FolderConfig


def open_dataset(config: DatasetConfig) -> Dataset:
    """The data set that `config` describes; `InputError` for what is missing or cannot be read."""
    match config:
        case PictureBookConfig():
            return PictureBook(config)
        case FolderConfig():
            return Folder(config)
