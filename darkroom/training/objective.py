"""What the loop asks of an objective. The loop knows nothing of GANs, teachers or latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Generator, Tensor, nn

__all__ = ["Loss", "Objective"]


@dataclass(frozen=True)
class Loss:
    """A loss for one optimiser, and numbers worth logging beside it."""

    optimiser: str
    value: Tensor  # scalar
    log: Mapping[str, float | Tensor]


class Objective(Protocol):
    """Owns its networks and its data; says what is lost."""

    networks: nn.ModuleDict  # everything that a checkpoint must hold
    ema: tuple[str, ...]  # the networks of which a running mean is kept

    def optimisers(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that each optimiser changes."""
        ...

    def batch(self, index: int, size: int) -> Any:
        """Batch number `index`, the same on every call: data position is a number."""
        ...

    def losses(self, batch: Any, step: int, generator: Generator) -> Iterator[Loss]:
        """One loss per optimiser, in order; each is differentiated before the next is computed."""
        ...

    def pictures(self, generator: Generator) -> np.ndarray | None:
        """A grid (H, W, 3) uint8 of what the networks do now, with their running means in place; None for nothing."""
        ...

    def export(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write the finished networks, running means in place, to `folder`; `facts` tell of the run."""
        ...
