"""The wished aesthetic score of SDXL's refiner, as a sinusoid (papers D.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.errors import InputError
from darkroom.nn.embeddings import sinusoid

__all__ = ["AestheticScore", "AestheticScoreConfig"]


@dataclass(frozen=True)
class AestheticScoreConfig(EmbedderConfig):
    wished: float  # stands for a missing score
    unwished: float  # what the unconditional branch reads
    width: int = 256
    kind: Literal["aesthetic_score"] = "aesthetic_score"
    key = "aesthetic_score"
    reads = ("aesthetic_score",)


class AestheticScore(Embedder):
    """Never dropped in training. Absent: the wished score; the unconditional branch has a lower one of its own."""

    slot = "vector"
    config: AestheticScoreConfig

    def unconditional(self, value: float | None) -> float:
        return self.config.unwished

    def prepare(self, values: Sequence[float | None]) -> Tensor:
        scores = [self.config.wished if v is None else v for v in values]
        if wrong := [v for v in scores if isinstance(v, bool) or not isinstance(v, (int, float))]:
            raise InputError(f"aesthetic_score is {wrong[0]!r}, expected is a number")
        return torch.tensor([[float(v)] for v in scores])  # (B, 1)

    def forward(self, prepared: Tensor) -> Tensor:
        return sinusoid(prepared, self.config.width).flatten(1)  # (B, width)
