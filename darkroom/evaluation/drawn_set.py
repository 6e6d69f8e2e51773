"""What a model draws for a list of prompts, as a data set: a folder of pictures with their prompts beside them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from darkroom.evaluation.study.collection import candidate, is_folder, requests_of
from darkroom.evaluation.study.design import Item
from darkroom.pictures.picture_file import write_picture
from darkroom.whole_file import made_folder, whole_file

__all__ = ["drawn_by", "is_data"]


def is_data(name: str) -> bool:
    """Whether `name` is a data set, and no model that would draw one."""
    path = Path(name)
    return is_folder(candidate(name)) or (os.path.isfile(path) and path.suffix in (".tar", ".toml"))


def drawn_by(name: str, items: Sequence[Item], device: str, folder: Path) -> tuple[Path, int]:
    """The folder below `folder` that holds what the model `name` (`picturebook,steps=8`) draws for `items`, and how
    many pictures had to be drawn.

    It is found by the model's hash and all that was asked: pictures that are there stay, and an interrupted call goes
    on. `InputError` for a model that is not there and prompts that it cannot draw.
    """
    from darkroom.checkpoints.model import load_model
    from darkroom.engine.pipeline import Pipeline, Progress

    entry = candidate(name)
    requests = requests_of(entry, items, range(len(items)))
    loaded = load_model(entry.source, device)
    asked = hashlib.sha256(repr((loaded.hash, requests)).encode()).hexdigest()[:16]
    place = made_folder(folder / f"{loaded.name.replace(os.sep, '-')}-{asked}")
    paths = [place / f"{i:06d}.png" for i in range(len(items))]
    left = [i for i, path in enumerate(paths) if not path.is_file()]
    events = Pipeline(loaded.model).run([requests[i] for i in left], batch_size=16)
    pictures = (e for e in events if not isinstance(e, Progress))
    for index, picture in track(pictures, "drawing", total=len(left), transient=True):
        path = paths[left[index]]
        with whole_file(path.with_suffix(".txt")) as file:
            file.write(items[left[index]].prompt.encode())
        write_picture(path, picture.pixels, items[left[index]].prompt)
    return place, len(left)
