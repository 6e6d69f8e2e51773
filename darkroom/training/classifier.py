"""Objective: find the things in a picture. Trains the feature network of the perceptual distance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.checkpoints.native import write_network
from darkroom.data.order import Place
from darkroom.data.picturebook import COLOURS, KINDS
from darkroom.data.reader import Reader
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.errors import require
from darkroom.models.classifier import Classifier, ClassifierConfig
from darkroom.pixels import to_tensor
from darkroom.training.config import LoopConfig
from darkroom.training.objective import Loss, StepContext

__all__ = ["ClassifierObjective", "ClassifierRecipe"]

CELL = 16  # pixels a side of the classifier's cells


@dataclass(frozen=True)
class ClassifierRecipe:
    loop: LoopConfig
    data: PictureBookConfig
    width: int
    kind: Literal["classifier"] = "classifier"

    def __post_init__(self) -> None:
        require(self.width >= 1, "width", self.width, "at least 1")
        require(self.data.size % CELL == 0, "data.size", self.data.size, f"a multiple of {CELL}")


class ClassifierObjective:
    """Binary cross-entropy for every kind and colour in every cell of 16 × 16 pixels: is such a thing here?"""

    ema = ("classifier",)

    def __init__(self, recipe: ClassifierRecipe) -> None:
        self.data = PictureBook(recipe.data)
        self.reader = Reader(self.data, None, recipe.loop.step_size, recipe.loop.seed)
        self.labels = (*KINDS, *COLOURS)
        self.index = {label: i for i, label in enumerate(self.labels)}
        self.network = Classifier(ClassifierConfig(self.labels, recipe.width))
        self.frozen = nn.ModuleDict()
        self.trained = nn.ModuleDict({"classifier": self.network})

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {"classifier": list(self.network.parameters())}

    def batch(self, places: Sequence[Place]) -> tuple[Tensor, Tensor]:
        cells = self.data.config.size // CELL
        images, targets = [], torch.zeros(len(places), len(self.labels), cells, cells)
        for row, place in enumerate(places):
            images.append(self.data.image(place.index))
            for thing in self.data.scene(place.index).things:
                rows = _covered(thing.box.top, thing.box.bottom, cells)
                columns = _covered(thing.box.left, thing.box.right, cells)
                for label in (thing.kind, thing.colour):
                    targets[row, self.index[label], rows, columns] = 1.0
        return to_tensor(np.stack(images)), targets

    def losses(self, batch: tuple[Tensor, Tensor], context: StepContext) -> Iterator[Loss]:
        images, targets = (t.to(self.network.head.weight.device) for t in batch)
        logits = self.network(images).float()
        loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1).mean()
        found = ((logits > 0) & (targets > 0)).sum() / targets.sum()
        yield Loss("classifier", loss, {"recall": found.detach()})

    def samples(self) -> np.ndarray | None:
        return None

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        write_network(folder / "classifier.safetensors", self.network, self.network.config, metadata)


def _covered(start: float, end: float, cells: int) -> slice:
    """The cells from `start` to `end`, shares of a side; at least one, for small things in small pictures."""
    first = min(round(start * cells), cells - 1)
    return slice(first, max(first + 1, round(end * cells)))
