"""What a metric is: features of pictures in, numbers with their intervals out. Pictures come in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, Self

import numpy as np

from darkroom.evaluation.share import wilson
from darkroom.registry import Registry

__all__ = ["METRICS", "Measured", "Metric", "jackknife_reach", "mean_of"]


@dataclass(frozen=True)
class Measured:
    """A number and its 95 % interval; None where there is no honest one, and `note` says why."""

    value: float
    interval: tuple[float, float] | None = None
    note: str = ""


class Metric(Protocol):
    """One set of pictures as the metric sees it. Two sets are compared by `result`; parts of one set by `merge`."""

    reads: ClassVar[Literal["features", "classes"]]  # rows of features, or of probabilities of the network's classes

    def __init__(self, shard: int = 0) -> None:
        """`shard`: which part of the set this instance sees, another for each that will be merged."""
        ...

    def update(self, features: np.ndarray) -> None:
        """Take in the rows (B, D) of a batch."""
        ...

    def merge(self, other: Self) -> None:
        """Take in what `other` has seen: as if it had been given to this one."""
        ...

    def result(self, reference: Self) -> Mapping[str, Measured]:
        """The numbers of this set against `reference`; `InputError` where either has too few pictures for them."""
        ...


METRICS: Registry[type[Metric]] = Registry("metric")


def mean_of(values: np.ndarray) -> Measured:
    """The mean of one number a picture, with the 95 % interval of a mean; of yes and no (bool) with Wilson's, which is
    sound where all say the same."""
    mean = float(values.mean())
    if len(values) < 2:
        return Measured(mean, note="no interval from one picture")
    if values.dtype == bool:
        return Measured(mean, wilson(mean, len(values)))
    if (values == values[0]).all():
        return Measured(mean, note="the same for all: no interval")
    reach = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return Measured(mean, (mean - reach, mean + reach))


def jackknife_reach(*left_out: np.ndarray) -> float:
    """Half a 95 % interval of a number that depends on several samples. Each array: the number's values with one block
    of one sample left out after the other."""
    variance = sum((len(v) - 1) / len(v) * np.square(v - v.mean()).sum() for v in left_out)
    return 1.96 * float(variance) ** 0.5
