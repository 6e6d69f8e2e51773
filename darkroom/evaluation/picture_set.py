"""Sets of pictures as metrics read them: any data set, its features piece by piece, kept on disk.

A piece is 256 pictures. Its features are found by the network and the pictures' keys, so that what was computed once is
there for the next comparison, after an interruption, and for whoever shares the folder: processes take pieces in turn.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from darkroom.data.catalog import open_unchecked
from darkroom.data.dataset import Dataset
from darkroom.errors import InputError, require
from darkroom.evaluation.features import FeatureNetwork, open_features
from darkroom.pixels import to_tensor
from darkroom.types import Size
from darkroom.whole_file import made_folder, whole_file

__all__ = [
    "PIECE",
    "PictureSet",
    "compute_features",
    "default_cache",
    "keep_rows",
    "kept_rows",
    "open_pictures",
    "read_features",
]

PIECE, BATCH = 256, 32


@dataclass(frozen=True)
class PictureSet:
    """`captions`: of each picture, None where it has none."""

    path: Path
    dataset: Dataset
    captions: list[str | None]

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def pieces(self) -> list[range]:
        n = len(self)
        return [range(start, min(start + PIECE, n)) for start in range(0, n, PIECE)]

    def pixels(self, index: int) -> np.ndarray:
        """uint8 (H, W, 3); the same each time."""
        return self.dataset.sample(index, np.random.default_rng(0)).image

    def sizes(self) -> set[Size]:
        """Of all pictures, from the files' first bytes."""
        return {self.dataset.size(i) for i in range(len(self))}


def open_pictures(path: Path) -> PictureSet:
    """A folder of pictures, with captions or without, or any other data set that training reads."""
    if not os.path.exists(path):
        raise InputError(f"there is no folder of pictures {path}")
    dataset, texts = open_unchecked(path)
    return PictureSet(path, dataset, [text if isinstance(text, str) else None for text in texts])


def default_cache() -> Path:
    """Where features are kept, about 8 KB a picture and network."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "darkroom" / "features"


def read_features(
    pictures: PictureSet, network: FeatureNetwork, cache: Path | None, first: int = 0, step: int = 1
) -> Iterator[np.ndarray]:
    """The features (n, D) of every `step`-th piece from `first` on, in order; computed where `cache` lacks them."""
    if not network.resizes:
        _require_one_size(pictures, network)
    for numbers in pictures.pieces[first::step]:
        place = None if cache is None else cache / f"{_key(pictures, network, numbers)}.npy"
        found = None if place is None else kept_rows(place, len(numbers))
        if found is None:
            found = _computed(pictures, network, numbers)
            if place is not None:
                keep_rows(place, found)
        yield found


def compute_features(
    path: Path, spec: str, device: str, cache: Path, *, processes: int = 1, shard: tuple[int, int] = (0, 1)
) -> None:
    """Fill `cache` with the features of shard i of n of the set at `path`, in so many processes of their own."""
    first, shards = shard
    require(0 <= first < shards, "the shard", f"{first + 1}/{shards}", "1/N to N/N")
    require(1 <= processes <= 256, "the number of processes", processes, "1 to 256")
    step, threads = shards * processes, max(1, torch.get_num_threads() // processes)
    work = [(path, spec, device, cache, first + shards * k, step, threads) for k in range(processes)]
    if processes == 1:
        _fill(*work[0])
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.starmap(_fill, work, chunksize=1)


def _fill(path: Path, spec: str, device: str, cache: Path, first: int, step: int, threads: int) -> None:
    torch.set_num_threads(threads)
    for _ in read_features(open_pictures(path), open_features(spec, device), cache, first, step):
        pass


def _require_one_size(pictures: PictureSet, network: FeatureNetwork) -> None:
    sizes = sorted(pictures.sizes())
    if len(sizes) > 1:
        listed = ", ".join(str(s) for s in sizes[:3]) + (", …" if len(sizes) > 3 else "")
        raise InputError(
            f"{pictures.path} holds pictures of {listed}, expected is one size: the network {network.name} sees them "
            "as they are"
        )
    if sizes[0].height % 16 or sizes[0].width % 16:
        raise InputError(f"{pictures.path} holds pictures of {sizes[0]}, expected are multiples of 16 pixels")


def _key(pictures: PictureSet, network: FeatureNetwork, numbers: range) -> str:
    names = [network.identity, *(pictures.dataset.key(i) for i in numbers)]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:40]


def kept_rows(place: Path, count: int) -> np.ndarray | None:
    """`count` rows that `keep_rows` wrote; None for what is not there or damaged: it is only a cache."""
    try:
        found = np.load(place, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    rows = isinstance(found, np.ndarray) and found.ndim == 2 and len(found) == count and found.dtype == np.float32
    return found if rows and np.isfinite(found).all() else None


def keep_rows(place: Path, found: np.ndarray) -> None:
    """Write rows (n, D) in float32 whole or not at all."""
    made_folder(place.parent)
    with whole_file(place) as file:
        np.save(file, found)


def _computed(pictures: PictureSet, network: FeatureNetwork, numbers: range) -> np.ndarray:
    """Pictures that follow each other and have one size go through the network together."""
    rows: list[np.ndarray] = []
    waiting: list[np.ndarray] = []

    def flush() -> None:
        if waiting:
            rows.append(network(to_tensor(np.stack(waiting))))
            waiting.clear()

    for i in numbers:
        pixels = pictures.pixels(i)
        if len(waiting) == BATCH or (waiting and waiting[0].shape != pixels.shape):
            flush()
        waiting.append(pixels)
    flush()
    found = np.concatenate(rows)
    if bad := [pictures.dataset.name(i) for i, row in zip(numbers, found) if not np.isfinite(row).all()]:
        raise InputError(f"the network {network.name} gives NaN or infinity for {bad[0]} in {pictures.path}")
    return found
