"""What the loop gives to objectives, for tests that call them alone."""

from __future__ import annotations

import numpy as np

from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.diffusion.draws import RowDraws
from darkroom.training.objective import StepContext
from darkroom.types import Sample, Size

__all__ = ["Numbers", "context", "first_places", "numbers"]

SIZE = Size(1, 1)


class Numbers:
    """A data set of so many samples that nobody reads."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"number {index}"

    def size(self, index: int) -> Size:
        return SIZE

    def key(self, index: int) -> str:
        return str(index)

    def sample(self, index: int, rng: np.random.Generator, *, pixels: bool = True) -> Sample:
        return Sample(np.full((1, 1, 3), index, np.uint8), {}, SIZE)


def numbers(count: int, step_size: int, seed: int = 0) -> Reader:
    return Reader(Numbers(count), None, step_size, seed)


def first_places(reader: Reader, count: int) -> list[Place]:
    """The first places of a run, as one batch."""
    found: list[Place] = []
    while len(found) < count:
        found += reader.order.batch(len(found) // reader.order.batch_size)
    return found[:count]


def context(places: list[Place], step: int = 0) -> StepContext:
    return StepContext(step, places, RowDraws([p.number for p in places]))
