"""Which samples make up a step: arithmetic on the seed and the step, so that to resume is to compute."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from darkroom.errors import InputError, require
from darkroom.types import Size

__all__ = ["Order", "Place"]


@dataclass(frozen=True)
class Place:
    """A sample's place in the whole run. All randomness of the sample comes from the run's seed and `number`."""

    number: int  # position in the run, 0-based
    epoch: int
    index: int  # in the dataset
    size: Size  # to bring the picture to

    def rng(self, seed: int) -> np.random.Generator:
        """For what is drawn on the way from the dataset to the network: caption, crop, mirroring."""
        return np.random.default_rng((seed, self.number))


class Order:
    """The samples of each step: all of one size, every sample at least once an epoch, sizes in random order.

    `buckets`: the numbers of the samples that are brought to each size. A step takes `batch_size` samples over all
    processes and micro-batches. What a bucket lacks to its last batch is filled with samples of the same bucket.
    """

    def __init__(self, buckets: Mapping[Size, Sequence[int] | np.ndarray], batch_size: int, seed: int) -> None:
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        self.buckets = {size: np.asarray(buckets[size], np.int64) for size in sorted(buckets) if len(buckets[size])}
        if not self.buckets:
            raise InputError("the data set is empty: there is no picture to train on")
        self.batch_size, self.seed = batch_size, seed
        self.epoch_batches = [(size, i) for size, n in self.buckets.items() for i in range(-(-len(n) // batch_size))]

    @property
    def steps_per_epoch(self) -> int:
        return len(self.epoch_batches)

    @property
    def filled(self) -> int:
        """How many places of an epoch are taken by samples that it has already."""
        return self.steps_per_epoch * self.batch_size - sum(map(len, self.buckets.values()))

    def batch(self, step: int) -> list[Place]:
        """The places of step `step` (0-based), the same on every call and every process."""
        epoch, position = divmod(step, self.steps_per_epoch)
        batches, permutations = self._epoch(epoch)
        size, start = self.epoch_batches[batches[position]]
        members = permutations[size]
        numbers = np.arange(start * self.batch_size, (start + 1) * self.batch_size) % len(members)
        first = step * self.batch_size
        return [Place(first + i, epoch, int(members[n]), size) for i, n in enumerate(numbers)]

    def share(self, step: int, rank: int, world: int, pieces: int) -> list[list[Place]]:
        """The places of step `step` that process `rank` of `world` takes, cut into `pieces` micro-batches at most."""
        own = self.batch(step)[rank::world]
        each = -(-len(own) // pieces) or 1
        return [own[i : i + each] for i in range(0, len(own), each)]

    def _epoch(self, epoch: int) -> tuple[np.ndarray, dict[Size, np.ndarray]]:
        return _shuffled(self, epoch)

    def __hash__(self) -> int:
        return id(self)


@functools.lru_cache(maxsize=4)
def _shuffled(order: Order, epoch: int) -> tuple[np.ndarray, dict[Size, np.ndarray]]:
    """The batches of an epoch in their order, and the members of each bucket in theirs."""
    batches = np.random.default_rng((order.seed, epoch)).permutation(order.steps_per_epoch)
    permutations = {
        size: np.random.default_rng((order.seed, epoch, size.height, size.width)).permutation(members)
        for size, members in order.buckets.items()
    }
    return batches, permutations
