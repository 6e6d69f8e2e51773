"""From what a recipe says of its data to samples of sizes that its networks take."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from darkroom.data.buckets import BucketConfig, Buckets
from darkroom.data.catalog import DatasetConfig, open_dataset, passed_over_in
from darkroom.data.dataset import Dataset
from darkroom.data.kohya import KohyaConfig, kohya_buckets
from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.data.source import PictureBookConfig
from darkroom.errors import InputError, require
from darkroom.training.config import LoopConfig
from darkroom.training.validation import ValidationConfig, held_out

__all__ = ["buckets_of", "check_cached_crops", "check_sizes", "first_pictures", "open_reader", "open_readers"]


def buckets_of(data: DatasetConfig, buckets: Buckets) -> Buckets:
    """The buckets that the recipe names, or that a data set brings along; None where all pictures have one size."""
    if buckets is None and isinstance(data, KohyaConfig):
        buckets = kohya_buckets(data.path)
    if isinstance(data, PictureBookConfig):
        require(buckets is None, "buckets", "given", "nothing beside scenes, which are drawn at data.size")
        return None
    if buckets is None:
        raise InputError("buckets is missing: pictures of any size need [buckets] with a resolution")
    return buckets


def check_sizes(data: DatasetConfig, buckets: Buckets, multiple: int, least: int) -> None:
    """`InputError` unless all sizes are multiples of `multiple` from `least` up."""
    if isinstance(data, PictureBookConfig):
        fits = data.size % multiple == 0 and data.size >= least
        require(fits, "data.size", data.size, f"a multiple of {multiple} from {least} up")
        return
    for each in _listed(buckets):
        require(each.step % multiple == 0, "buckets.step", each.step, f"a multiple of {multiple}")
        fits = each.resolution % multiple == 0 and each.resolution >= least
        require(fits, "buckets.resolution", each.resolution, f"a multiple of {multiple} from {least} up")


def check_cached_crops(cache: Path | None, data: DatasetConfig, buckets: Buckets) -> None:
    """`InputError` where latents are kept and pictures are cut elsewhere each time."""
    if cache is not None:
        for each in _listed(buckets_of(data, buckets)):
            require(each.crop == "center", "buckets.crop", each.crop, '"center" beside latent_cache')


def _listed(buckets: Buckets) -> Sequence[BucketConfig]:
    """The one that all pictures share, or those of the parts of the data; none where pictures keep their sizes."""
    return () if buckets is None else (buckets,) if isinstance(buckets, BucketConfig) else buckets


def open_reader(
    data: DatasetConfig,
    buckets: Buckets,
    loop: LoopConfig,
    dataset: Dataset | None = None,
    among: Collection[int] | None = None,
) -> Reader:
    """The reader of a recipe's data, or of `dataset` in its place; with `among` of these samples alone.

    Pictures whose size cannot be read are named on standard error and left out; what is passed over is counted there.
    """
    dataset = open_dataset(data) if dataset is None else dataset
    if among is None:
        _tell_passed_over(dataset)
    reader = Reader(dataset, buckets_of(data, buckets), loop.step_size, loop.seed, among)
    for name, error in list(reader.unreadable.items())[:10]:
        print(f"left out: {name}: {error}", file=sys.stderr)
    if (count := len(reader.unreadable)) > 10:
        print(f"left out: {count - 10} pictures more that cannot be read", file=sys.stderr)
    return reader


def _tell_passed_over(dataset: Dataset) -> None:
    if (told := passed_over_in(dataset)) is not None:
        print(told, file=sys.stderr)


def open_readers(
    data: DatasetConfig,
    buckets: Buckets,
    loop: LoopConfig,
    validation: ValidationConfig | None,
    dataset: Dataset | None = None,
) -> tuple[Reader, Reader | None]:
    """The reader of what is trained on, and that of validation's samples: held out of the data, or of their own."""
    if validation is None:
        return open_reader(data, buckets, loop, dataset), None
    if validation.data is not None:
        return open_reader(data, buckets, loop, dataset), open_reader(validation.data, buckets, loop)
    dataset = open_dataset(data) if dataset is None else dataset
    assert validation.share is not None, "share or data"
    _tell_passed_over(dataset)
    apart = frozenset(held_out(dataset, validation.share))
    rest = [i for i in range(len(dataset)) if i not in apart]
    return open_reader(data, buckets, loop, dataset, rest), open_reader(data, buckets, loop, dataset, apart)


def first_pictures(reader: Reader, count: int) -> list[np.ndarray]:
    """Up to `count` pictures of the most frequent size, uint8 (H, W, 3), the first of the data."""
    size = max(reader.buckets, key=lambda s: len(reader.buckets[s]))
    members = reader.buckets[size][:count]
    found = [reader.read(Place(i, 0, int(index), size)).image for i, index in enumerate(members)]
    reader.drain()
    return found
