"""Random numbers for the rows of a training batch: each row has a generator of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["RowDraws", "sample_seed"]


def sample_seed(seed: int, number: int) -> int:
    """A seed below 2⁶³ for sample `number` of a run that has `seed`."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


class RowDraws:
    """Draws (B, …) of which row i depends on seed i and on the order of the calls alone.

    So a row is the same whatever stands beside it: however a step is cut into micro-batches, and on however many
    processes. `strata`: for each row its share of 0 … 1, one in every 1/n of the n rows of the whole step.
    """

    def __init__(self, seeds: Sequence[int], strata: Tensor | None = None) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._strata = strata

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, *shape: int) -> Tensor:
        """float32 (B, *shape), unit normal."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators])

    def uniform(self, *shape: int) -> Tensor:
        """float32 (B, *shape), uniform over 0 … 1."""
        return torch.stack([torch.rand(shape, generator=g) for g in self.generators])

    def stratified(self) -> Tensor:
        """float32 (B,), uniform over 0 … 1 and evenly spread over the step where the strata are known."""
        drawn = self.uniform()
        return drawn if self._strata is None else self._strata
