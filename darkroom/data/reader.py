"""From places in a run to samples of the right size; what was used for each is kept for the ledger."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from darkroom.data.buckets import Buckets, bucketings, fill_buckets
from darkroom.data.dataset import Dataset
from darkroom.data.order import Order, Place
from darkroom.errors import InputError
from darkroom.types import Sample, Size

__all__ = ["Reader", "Used"]

TRIES = 20  # pictures in a row that cannot be read, before the run stops


@dataclass(frozen=True)
class Used:
    """A line of the ledger: what stood at one place of the run."""

    number: int
    epoch: int
    index: int  # in the data set, of what was used
    name: str
    caption: str | None
    size: Size
    crop: tuple[int, int]
    flipped: bool
    instead_of: str | None = None  # the picture that could not be read, and why


class Reader:
    """A data set, its buckets and the order of its samples; with `among` of these samples alone."""

    def __init__(
        self,
        dataset: Dataset,
        buckets: Buckets,
        batch_size: int,
        seed: int,
        among: Collection[int] | None = None,
    ) -> None:
        self.dataset = dataset
        self.among = range(len(dataset)) if among is None else frozenset(among)
        self.bucketing = bucketings(dataset, buckets)
        self.seed = seed
        members, self.unreadable = fill_buckets(dataset, self.bucketing)
        if self.unreadable and not members:
            first = next(iter(self.unreadable.values()))
            raise InputError(f"none of the {len(self.unreadable)} pictures can be read, the first: {first}")
        chosen = {size: [i for i in numbers if i in self.among] for size, numbers in members.items()}
        self.order = Order(chosen, batch_size, seed)
        self._of_thread = threading.local()

    @property
    def used(self) -> list[Used]:
        """What this thread has read since it last drained: one may read ahead while another draws samples."""
        return self._of_thread.__dict__.setdefault("used", [])

    @property
    def buckets(self) -> Mapping[Size, np.ndarray]:
        return self.order.buckets

    def read(self, place: Place, *, pixels: bool = True) -> Sample:
        """The sample at `place`, brought to its size; without `pixels` all but the picture.

        A picture that cannot be read is passed over for the next of its bucket.
        """
        failure: InputError | None = None
        candidates = self._from(place)
        for index in candidates:
            try:
                sample = self.dataset.sample(index, place.rng(self.seed), pixels=pixels)
            except InputError as error:
                failure = failure or error
                continue
            if (bucketing := self.bucketing(index)) is not None:
                sample = bucketing.fit(sample, place.size, place.rng(self.seed + 1))
            self._note(place, index, sample, failure)
            return sample
        assert failure is not None, "a bucket is not empty"
        raise InputError(f"{len(candidates)} pictures in a row cannot be read, the first: {failure}")

    def drain(self) -> list[Used]:
        """What this thread has read since its last call."""
        return self._of_thread.__dict__.pop("used", [])

    def _from(self, place: Place) -> list[int]:
        """The sample of the place, then those that may stand in for it."""
        members = self.order.buckets[place.size]
        first = int(np.searchsorted(members, place.index))
        return [int(members[(first + i) % len(members)]) for i in range(min(TRIES, len(members)))]

    def _note(self, place: Place, index: int, sample: Sample, failure: InputError | None) -> None:
        caption = sample.conditions.get("caption")
        self.used.append(
            Used(
                place.number,
                place.epoch,
                index,
                self.dataset.name(index),
                caption if isinstance(caption, str) else None,
                place.size,
                sample.crop,
                sample.flipped,
                None if failure is None else f"{self.dataset.name(place.index)}: {failure}",
            )
        )
