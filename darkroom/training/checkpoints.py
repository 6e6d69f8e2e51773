"""Checkpoints of a run: each counts only with its digests, and the newest sound one is gone on from."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from darkroom.errors import InputError, cause, printable
from darkroom.input_file import open_input
from darkroom.json_file import read_json
from darkroom.training.sharding import joined, own_part
from darkroom.training.world import World

__all__ = ["KEPT", "Checkpoints"]

KEPT = 2  # the newest sound ones, so that damage to one costs little
STATE, DIGESTS = "state.pt", "digests.json"


class Checkpoints:
    """The folder `checkpoints` of a run: one folder a checkpoint, named by its step.

    A checkpoint is written beside its place, synchronized with the disk and then renamed: it is there whole or not at
    all, whenever the process ends. `warn` is told of damaged ones, which are passed over.
    """

    def __init__(self, run: Path, warn: Callable[[str], None], world: World | None = None) -> None:
        self.folder = run / "checkpoints"
        self.warn = warn
        self.world = world or World()

    def __bool__(self) -> bool:
        """Whether there is any, sound or not."""
        return bool(self._steps())

    def save(self, step: int, state: Mapping[str, Any], best: int | None = None) -> None:
        """Write `state` as the checkpoint of `step`, then remove all but the `KEPT` newest and that of step `best`.

        All processes call it; each writes its parts of sharded tensors, the first all else. Raises `InputError` if it
        cannot be written; those that are there stay.
        """
        place, fresh = self._place(step), self.folder / f".{step:08d}.new"
        world = self.world
        world.decided(lambda: _made(fresh))
        written = world.together(lambda: self._written(fresh, state))
        world.decided(lambda: self._finish(place, fresh, dict(pair for pair in written if pair is not None), best))

    def _written(self, fresh: Path, state: Mapping[str, Any]) -> tuple[str, str] | None:
        """This process's file in `fresh`: its name and SHA-256; None where there is nothing to write."""
        parts = own_part(dict(state), first=self.world.first)
        if not self.world.first and not _holds_tensors(parts):
            return None
        name = STATE if self.world.first else f"state-{self.world.rank:05d}.pt"
        with _named(fresh), (fresh / name).open("wb") as file:
            hashed = _Hashed(file)
            torch.save(parts, hashed)  # type: ignore[arg-type]  # it only writes
            _sync(file)
        return name, hashed.hash.hexdigest()

    def _finish(self, place: Path, fresh: Path, digests: Mapping[str, str], best: int | None) -> None:
        with _named(fresh):
            with (fresh / DIGESTS).open("w", encoding="utf-8") as file:
                json.dump(digests, file)
                _sync(file)
            if place.exists():  # a damaged one, or what a changed clock of steps left
                shutil.rmtree(place)
            os.replace(fresh, place)
            _sync_folder(self.folder)
        for old in self._steps()[KEPT:]:
            if old != best:
                shutil.rmtree(self._place(old), ignore_errors=True)

    def newest(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest sound checkpoint, on the CPU, sharded tensors as `Rows`; None if there are none.

        All processes call it; the first looks which are sound. `InputError` if none is.
        """
        place = self.world.decided(self._newest_sound)
        return None if place is None else (place, self._read(place))

    def sound(self, step: int) -> dict[str, Any] | None:
        """The checkpoint of `step` as `newest` gives it; None, which is warned of, if it is not there or damaged."""
        place = self._place(step)
        reason = self.world.decided(lambda: _damage(place))
        if reason is None:
            return self._read(place)
        if self.world.first:
            self.warn(f"the checkpoint {place} is damaged and passed over: {reason}")
        return None

    def _read(self, place: Path) -> dict[str, Any]:
        files = [place / STATE, *sorted(place.glob("state-*.pt"))]
        try:
            states = [torch.load(f, map_location="cpu", weights_only=True, mmap=len(files) > 1) for f in files]
            return joined(states)
        except Exception as error:  # what others wrote with digests that fit may raise anything in torch's reader
            raise InputError(f"{place} holds no state of a run: {cause(error)}") from None

    def _newest_sound(self) -> Path | None:
        damaged = []
        for step in self._steps():
            place = self._place(step)
            reason = _damage(place)
            if reason is None:
                if damaged:
                    self.warn(f"going on from {place}, the newest sound one")
                return place
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


def _made(fresh: Path) -> None:
    shutil.rmtree(fresh, ignore_errors=True)
    with _named(fresh):
        fresh.mkdir(parents=True)


@contextmanager
def _named(fresh: Path) -> Iterator[None]:
    """`InputError` that the checkpoint cannot be written, which leaves nothing of it."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch wraps what its file raises
        shutil.rmtree(fresh, ignore_errors=True)
        place = fresh.with_name(fresh.name.strip(".").removesuffix(".new"))
        raise InputError(f"the checkpoint {place} cannot be written: {cause(error)}") from None


def _holds_tensors(state: Any) -> bool:
    return isinstance(state, Tensor) or (isinstance(state, dict) and any(map(_holds_tensors, state.values())))


def _damage(place: Path) -> str | None:
    """What is wrong with the checkpoint, None if nothing is."""
    try:
        digests = read_json(place / DIGESTS)
        if STATE not in digests:
            return f"{DIGESTS} does not name {STATE}"
        for name, digest in digests.items():
            with open_input(place / Path(name).name) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return f"the SHA-256 of {printable(name)} is not the one it was written with"
    except OSError as error:
        return f"{place} cannot be read: {cause(error)}"
    except InputError as error:
        return str(error)
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
