"""What the data of a run were when it began, so that it does not go on with others unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from darkroom.data.dataset import Dataset, Versioned
from darkroom.errors import InputError, printable
from darkroom.json_file import read_json
from darkroom.whole_file import whole_file

__all__ = ["check_data"]

RECORD = "data.json"  # in a run's folder: each picture's name and a digest of its version
MAX_BYTES = 2 << 30
SHOWN = 3  # names in a sentence


def check_data(folder: Path, dataset: Dataset, *, resumes: bool) -> None:
    """Write to the run's `folder` what `dataset` holds; of a run that `resumes`, see that it is what it was.

    Raises `InputError` that names pictures that are new, gone or changed. Data that nobody can change, such as drawn
    scenes, leave no file.
    """
    if not isinstance(dataset, Versioned):
        return
    now: dict[str, str] = {}
    for index in range(len(dataset)):
        if (name := dataset.name(index)) not in now:  # one that is read several times an epoch is there as often
            version = dataset.version(index).encode(errors="surrogateescape")
            now[name] = hashlib.blake2b(version, digest_size=8).hexdigest()
    record = folder / RECORD
    if not resumes or not record.exists():
        with whole_file(record) as file:
            file.write(json.dumps(now, indent=0).encode())
    elif differences := _differences(read_json(record, MAX_BYTES), now):
        raise InputError(
            f"the training data of {folder} are not those that it began with: {differences}; bring those back, choose "
            f"another folder for a new run, or delete {record} to go on with the data as they are"
        )


def _differences(before: Mapping[str, object], now: Mapping[str, str]) -> str:
    found = {
        "new": [name for name in now if name not in before],
        "gone": [name for name in before if name not in now],
        "changed": [name for name in now if name in before and before[name] != now[name]],
    }
    told = [f"{len(names)} {kind} ({_first(names)})" for kind, names in found.items() if names]
    return ", ".join(told)


def _first(names: list[str]) -> str:
    more = ["…"] if len(names) > SHOWN else []
    return ", ".join([*(printable(name) for name in names[:SHOWN]), *more])
