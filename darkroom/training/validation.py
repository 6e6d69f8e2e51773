"""Validation: the loss on pictures that training never sees, at fixed samples and noise; the best weights are kept."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from darkroom.data.catalog import DatasetConfig
from darkroom.data.dataset import Dataset
from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.errors import InputError, require
from darkroom.training.objective import Loss, StepContext
from darkroom.whole_file import whole_file

__all__ = ["Best", "Validated", "ValidationConfig", "held_out", "measure"]


@dataclass(frozen=True)
class ValidationConfig:
    every: int = 500  # steps between measurements
    count: int = 64  # samples, always the same ones with the same noise
    share: float = 0.05  # of the recipe's own pictures that training leaves out; which ones, their content decides
    data: DatasetConfig | None = None  # other pictures to measure on; the recipe's own are then all trained on

    def __post_init__(self) -> None:
        require(1 <= self.every < 2**31, "validation.every", self.every, "at least 1 and below 2³¹")
        require(1 <= self.count < 2**31, "validation.count", self.count, "at least 1 and below 2³¹")
        require(0 < self.share < 1, "validation.share", self.share, "a number above 0 and below 1")


@runtime_checkable
class Validated(Protocol):
    """An objective that can be measured on pictures it does not learn from."""

    @property
    def validation(self) -> ValidationConfig | None: ...

    @property
    def validation_reader(self) -> Reader:
        """Of the pictures to measure on, which are there when `validation` is."""
        ...

    def validation_losses(self, context: StepContext) -> Iterator[Loss]:
        """As `losses` of the samples at `context.places` of that reader."""
        ...


def held_out(dataset: Dataset, share: float) -> Callable[[int], bool]:
    """Whether a picture is among the `share` that is left out: its key decides, so other pictures change nothing.

    `InputError` where that is none or all of them.
    """

    def chosen(index: int) -> bool:
        digest = hashlib.sha256(dataset.key(index).encode()).digest()
        return int.from_bytes(digest[:8], "big") < share * 2**64

    found = sum(chosen(i) for i in range(len(dataset)))
    if not 0 < found < len(dataset):
        raise InputError(
            f"validation.share is {share}, which holds {found} of {len(dataset)} pictures, expected is a share that "
            "leaves some on either side; or give validation.data"
        )
    return chosen


@torch.no_grad()
def measure(objective: Validated, step: int, draws: Callable[[list[int]], Any], size: int) -> dict[str, float]:
    """Means of all losses and of what is logged beside them, named `validation/…`, over the first samples.

    `draws`: the randomness of samples by their numbers; `size`: samples at a time.
    """
    config, reader = objective.validation, objective.validation_reader
    assert config is not None, "asked only where there is something to measure on"
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for places in _batches(reader, config.count, size):
        context = StepContext(step, places, draws([p.number for p in places]))
        for loss in objective.validation_losses(context):
            for name, value in {f"loss/{loss.optimizer}": loss.value, **loss.log}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(places)
                counts[name] = counts.get(name, 0) + len(places)
        reader.drain()
    return {f"validation/{name}": total / counts[name] for name, total in sums.items()}


def _batches(reader: Reader, count: int, size: int) -> Iterator[list[Place]]:
    """The first `count` places of the reader's order, or one epoch where that is less, by `size`."""
    steps = (reader.order.batch(step) for step in range(reader.order.steps_per_epoch))
    left = count
    for places in steps:
        own = list(islice(places, left))
        left -= len(own)
        for start in range(0, len(own), size):
            yield own[start : start + size]
        if not left:
            return


class Best:
    """The step whose networks had the least validation loss, and their export in `folder`/best."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "best"
        self.path = self.folder / "validation.json"

    def loss(self) -> float:
        """The least loss so far; infinite where nothing is kept."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))["loss"]
        except (OSError, ValueError, KeyError, TypeError):
            return math.inf
        return float(found) if isinstance(found, int | float) else math.inf

    def offer(self, step: int, numbers: Mapping[str, float], export: Callable[[Path], None]) -> bool:
        """Keep what `export` writes if the first loss among `numbers` is the least so far. Returns whether it is."""
        loss = next(v for k, v in numbers.items() if k.startswith("validation/loss/"))
        if not loss < self.loss():
            return False
        export(self.folder)
        with whole_file(self.path) as file:
            file.write(json.dumps({"step": step, "loss": loss}).encode())
        return True
