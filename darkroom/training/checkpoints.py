"""Checkpoints of a run: each counts only with its digests, and the newest sound one is gone on from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from darkroom.errors import InputError

__all__ = ["KEPT", "Checkpoints"]

KEPT = 2  # the newest sound ones, so that damage to one costs little
STATE, DIGESTS = "state.pt", "digests.json"


class Checkpoints:
    """The folder `checkpoints` of a run: one folder a checkpoint, named by its step.

    A checkpoint is written beside its place, synchronized with the disk and then renamed: it is there whole or not at
    all, whenever the process ends. `warn` is told of damaged ones, which are passed over.
    """

    def __init__(self, run: Path, warn: Callable[[str], None]) -> None:
        self.folder = run / "checkpoints"
        self.warn = warn

    def __bool__(self) -> bool:
        """Whether there is any, sound or not."""
        return bool(self._steps())

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write `state` as the checkpoint of `step`, then remove all but the `KEPT` newest.

        Raises `InputError` if it cannot be written; those that are there stay.
        """
        place, fresh = self._place(step), self.folder / f".{step:08d}.new"
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            with (fresh / STATE).open("wb") as file:
                hashed = _Hashed(file)
                torch.save(state, hashed)  # type: ignore[arg-type]  # it only writes
                _sync(file)
            with (fresh / DIGESTS).open("w", encoding="utf-8") as file:
                json.dump({STATE: hashed.hash.hexdigest()}, file)
                _sync(file)
            if place.exists():  # a damaged one, or what a changed clock of steps left
                shutil.rmtree(place)
            os.replace(fresh, place)
            _sync_folder(self.folder)
        except (OSError, RuntimeError) as error:  # torch wraps what its file raises
            shutil.rmtree(fresh, ignore_errors=True)
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
            raise InputError(f"the checkpoint {place} cannot be written: {reason}") from None
        for old in self._steps()[KEPT:]:
            shutil.rmtree(self._place(old), ignore_errors=True)

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest sound checkpoint, loaded to the CPU; None if there are none. `InputError` if none is sound."""
        damaged = []
        for step in self._steps():
            place = self._place(step)
            reason = _damage(place)
            if reason is None:
                if damaged:
                    self.warn(f"going on from {place}, the newest sound one")
                return place, torch.load(place / STATE, map_location="cpu", weights_only=True)
            damaged.append(place)
            self.warn(f"the checkpoint {place} is damaged and passed over: {reason}")
        if damaged:
            raise InputError(f"no checkpoint in {self.folder} is sound; remove them to begin again")
        return None

    def forget_after(self, step: int) -> int | None:
        """Remove the checkpoints of later steps; the newest step that is left, None if there is none."""
        for later in self._steps():
            if later > step:
                shutil.rmtree(self._place(later), ignore_errors=True)
        return max(self._steps(), default=None)

    def sweep(self) -> None:
        """Remove what killed processes left half-written."""
        for left in self.folder.glob(".*.new"):
            shutil.rmtree(left, ignore_errors=True)

    def _place(self, step: int) -> Path:
        return self.folder / f"{step:08d}"

    def _steps(self) -> list[int]:
        """Of all checkpoints, the newest first."""
        return sorted((int(p.name) for p in self.folder.glob("[0-9]*") if p.name.isdecimal()), reverse=True)


class _Hashed:
    """A file that takes the SHA-256 of what is written to it, before the disk can change it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _damage(place: Path) -> str | None:
    """What is wrong with the checkpoint, None if nothing is."""
    try:
        digests = json.loads((place / DIGESTS).read_text(encoding="utf-8"))
        with (place / STATE).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{Path(error.filename).name}: {error.strerror}"
    except ValueError:
        return f"{DIGESTS} is not JSON"
    if not isinstance(digests, dict) or digests.get(STATE) != found:
        return f"the SHA-256 of {STATE} is not the one it was written with"
    return None


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the new name survives a power cut, too
    finally:
        os.close(descriptor)
