"""What a metric is: features of pictures in, numbers with their intervals out. Pictures come in batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

from darkroom.registry import Registry

__all__ = ["METRICS", "Measured", "Metric"]


@dataclass(frozen=True)
class Measured:
    """A number and its 95 % interval; None where there is no honest one."""

    value: float
    interval: tuple[float, float] | None = None


class Metric(Protocol):
    """One set of pictures as the metric sees it. Two sets are compared by `result`; parts of one set by `merge`."""

    def __init__(self, shard: int = 0) -> None:
        """`shard`: which part of the set this instance sees, another for each that will be merged."""
        ...

    def update(self, features: np.ndarray) -> None:
        """Take in the features (B, D) of a batch."""
        ...

    def merge(self, other: Self) -> None:
        """Take in what `other` has seen: as if it had been given to this one."""
        ...

    def result(self, reference: Self) -> Mapping[str, Measured]:
        """The numbers of this set against `reference`; `InputError` where either has too few pictures for them."""
        ...


METRICS: Registry[type[Metric]] = Registry("metric")
