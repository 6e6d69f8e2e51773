"""Validation: what is lost on samples that are never trained on, always the same ones with the same noise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.data.catalog import DatasetConfig
from darkroom.data.dataset import Dataset
from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.errors import InputError, require
from darkroom.training.world import World

__all__ = ["MEASURE", "Best", "Validation", "ValidationConfig", "even_shares", "fixed_batches", "held_out", "validate"]

MEASURE = "validation/loss"  # by which the best step is chosen
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class ValidationConfig:
    share: float | None = None  # of the pictures of [data] that is held out …
    data: DatasetConfig | None = None  # … or a data set of its own: keys as in [data], the same buckets
    every: int = 500  # steps between validations
    count: int = 64  # samples, always the same ones with the same noise

    def __post_init__(self) -> None:
        if (self.share is None) == (self.data is None):
            raise InputError("validation needs share or data, one of the two")
        require(self.share is None or 0 < self.share < 1, "share", self.share, "a number between 0 and 1")
        for name in ("every", "count"):
            require(1 <= getattr(self, name) < 2**31, name, getattr(self, name), "at least 1 and below 2³¹")


@dataclass(frozen=True)
class Validation:
    """What an objective is measured on, and how.

    `measure` gives for a batch, by name, the values (n,) of those samples that have them; "loss" is of all (B,).
    """

    every: int
    batches: Sequence[Sequence[Place]]
    measure: Callable[[Sequence[Place]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Best:
    """The step at which the validation loss was least so far."""

    step: int
    loss: float


def held_out(dataset: Dataset, share: float) -> list[int]:
    """The numbers of the samples that are held out: those whose names are first by their hash, at least one name.

    A picture that stands several times in `dataset` is held out everywhere.
    """
    names = [dataset.name(i) for i in range(len(dataset))]
    ranked = sorted(dict.fromkeys(names), key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())
    chosen = set(ranked[: max(1, round(share * len(ranked)))])
    if len(chosen) == len(ranked):
        raise InputError(f"validation.share is {share}, which leaves none of {len(ranked)} pictures to train on")
    return [i for i, name in enumerate(names) if name in chosen]


def fixed_batches(reader: Reader, count: int, batch_size: int) -> list[list[Place]]:
    """The first `count` samples of `reader`, evenly over its buckets, in batches of one size each."""
    members = [(size, int(index)) for size, found in reader.buckets.items() for index in found]
    step = max(1.0, len(members) / count)
    chosen = [members[int(i * step)] for i in range(min(count, len(members)))]
    places = [Place(n, 0, index, size) for n, (size, index) in enumerate(chosen)]
    by_size = [[p for p in places if p.size == size] for size in reader.buckets]
    return [same[i : i + batch_size] for same in by_size for i in range(0, len(same), batch_size)]


def even_shares(places: Sequence[Place]) -> Tensor:
    """(B,) in 0 … 1, for each sample always the same and evenly spread over any number of samples in a row."""
    return torch.tensor([(0.5 + p.number * GOLDEN) % 1 for p in places])


@torch.no_grad()
def validate(validation: Validation, world: World) -> dict[str, float]:
    """Means over all samples, by name; each process measures its share of the batches.

    Under FSDP all processes go through the networks equally often: one without a batch repeats the first for nothing.
    """
    sums: dict[str, float] = {}
    batches = validation.batches
    for first in range(0, len(batches), world.size):
        own = first + world.rank
        found = validation.measure(batches[own if own < len(batches) else 0])
        if own < len(batches):
            for name, values in found.items():
                sums[name] = sums.get(name, 0.0) + float(values.double().sum())
                sums[f"of/{name}"] = sums.get(f"of/{name}", 0.0) + len(values)
    sums = world.sum_numbers(sums)
    return {f"validation/{name}": total / sums[f"of/{name}"] for name, total in sums.items() if name[:3] != "of/"}
