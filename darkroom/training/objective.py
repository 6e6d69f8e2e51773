"""What the loop asks of an objective. The loop knows nothing of GANs, teachers or latents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.diffusion.draws import RowDraws
from darkroom.training.sample_metrics import SampleSet
from darkroom.training.validation import Validation

__all__ = ["Drawing", "Loss", "Objective", "StepContext", "Validated", "Watched"]


@dataclass(frozen=True)
class Loss:
    """A loss for one optimizer, and numbers worth logging beside it."""

    optimizer: str
    value: Tensor  # scalar, the mean over the rows of the batch
    log: Mapping[str, float | Tensor]


@dataclass(frozen=True)
class StepContext:
    """Where in the run a micro-batch stands; all randomness comes from here."""

    step: int  # 0-based
    places: Sequence[Place]  # of the rows
    draws: RowDraws


class Objective(Protocol):
    """Owns its networks and its data; says what is lost."""

    trained: nn.ModuleDict  # what learns: saved in checkpoints
    frozen: nn.ModuleDict  # what is only used: moved to the device, never saved
    ema: tuple[str, ...]  # the trained networks of which a running mean is kept
    reader: Reader

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that each optimizer changes."""
        ...

    def batch(self, places: Sequence[Place]) -> Any:
        """The rows at `places`, on the CPU; made in worker processes ahead of the step."""
        ...

    def losses(self, batch: Any, context: StepContext) -> Iterator[Loss]:
        """One loss per optimizer, in order; each is differentiated before the next is computed."""
        ...

    def samples(self) -> np.ndarray | None:
        """A grid (H, W, 3) uint8 of what the networks do now, with their running means in place; None for nothing."""
        ...

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """Write the finished networks, running means in place, to `folder`; `metadata` tell of the run."""
        ...


@runtime_checkable
class Watched(Protocol):
    """An objective whose networks may collapse: it looks at each step's numbers and ends a run that is lost."""

    @property
    def good_step(self) -> int:
        """The last step at which all was sound."""
        ...

    def trouble(self, step: int, numbers: Mapping[str, float]) -> str | None:
        """Why the run is lost, None while it is not; `numbers` of `step` (1-based) are those of the log."""
        ...


@runtime_checkable
class Validated(Protocol):
    """An objective that may be measured on samples that it is never trained on."""

    validation: Validation | None


@runtime_checkable
class Drawing(Protocol):
    """An objective whose model draws pictures that may be measured."""

    metrics: SampleSet | None
