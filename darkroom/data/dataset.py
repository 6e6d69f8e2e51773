"""What training asks of a source of pictures. No torch, no models: arrays and plain values."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from darkroom.errors import InputError
from darkroom.types import Sample, Size

__all__ = ["Captioned", "Dataset", "Joined", "Versioned", "captions_of"]


class Dataset(Protocol):
    """A finite list of training pictures, each found by its number. Safe to read from several processes at once."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a user calls the picture: its path within the folder, say."""
        ...

    def size(self, index: int) -> Size:
        """Of the picture as it will be read, upright, before any resizing; found without decoding it."""
        ...

    def key(self, index: int) -> str:
        """Names the picture and changes when its content does; what is cached is found by it."""
        ...

    def sample(self, index: int, rng: np.random.Generator, *, pixels: bool = True) -> Sample:
        """The picture at full size with its conditions; `rng` decides whatever is drawn anew each time.

        Without `pixels` the picture itself is left out (None), all else is the same.

        Raises `InputError` that names a picture which cannot be read.
        """
        ...


@runtime_checkable
class Captioned(Protocol):
    """A data set that knows its captions before they are drawn."""

    def captions(self, index: int) -> Sequence[str]:
        """All captions that `sample` may draw for the picture; `InputError` where there are too many to tell."""
        ...


@runtime_checkable
class Versioned(Protocol):
    """A data set of files or rows, which somebody may change between two calls of a run."""

    def version(self, index: int) -> str:
        """Changes when the picture or what is said of it does, not with where its files lie or when they were written.

        No picture is decoded for it.
        """
        ...


def captions_of(dataset: Dataset, index: int) -> Sequence[str]:
    """All captions of the picture `index`; `InputError` for a data set that does not know them."""
    if not isinstance(dataset, Captioned):
        raise InputError(f"the captions of {dataset.name(index)} are made as they are drawn: none is known before")
    return dataset.captions(index)


class Joined:
    """Several datasets as one, each picture as often in an epoch as its dataset's `repeats` say.

    `weights` multiply the losses of a dataset's pictures (prior preservation). `labels` stand before the names of a
    dataset's pictures, so that those of several folders are told apart. Without any dataset it is empty.
    """

    def __init__(
        self, parts: Sequence[Dataset], repeats: Sequence[int], weights: Sequence[float], labels: Sequence[str] = ()
    ) -> None:
        self.parts, self.repeats, self.weights = list(parts), list(repeats), list(weights)
        self.labels = list(labels) or [""] * len(self.parts)
        self.counts = [len(p) for p in self.parts]
        totals = (n * r for n, r in zip(self.counts, repeats, strict=True))
        self.starts = list(itertools.accumulate(totals, initial=0))

    def __len__(self) -> int:
        return self.starts[-1]

    def _find(self, index: int) -> tuple[int, int]:
        """Which part, and the number in it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect.bisect_right(self.starts, index) - 1
        return part, (index - self.starts[part]) % self.counts[part]

    def part(self, index: int) -> int:
        """The number of the dataset that the picture is from."""
        return self._find(index)[0]

    def name(self, index: int) -> str:
        part, number = self._find(index)
        return f"{self.labels[part]}{self.parts[part].name(number)}"

    def size(self, index: int) -> Size:
        part, number = self._find(index)
        return self.parts[part].size(number)

    def key(self, index: int) -> str:
        part, number = self._find(index)
        return self.parts[part].key(number)

    def sample(self, index: int, rng: np.random.Generator, *, pixels: bool = True) -> Sample:
        part, number = self._find(index)
        found = self.parts[part].sample(number, rng, pixels=pixels)
        return replace(found, weight=found.weight * self.weights[part])

    def version(self, index: int) -> str:
        part, number = self._find(index)
        own = self.parts[part]
        return own.version(number) if isinstance(own, Versioned) else own.key(number)

    def captions(self, index: int) -> Sequence[str]:
        part, number = self._find(index)
        return captions_of(self.parts[part], number)
