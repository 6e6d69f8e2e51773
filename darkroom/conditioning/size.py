"""SDXL's micro-conditioning: original size, crop and target size as sinusoids (papers D.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.conditioning.embedder import Embedder
from darkroom.nn.embeddings import sinusoid

__all__ = ["Numbers", "NumbersConfig"]


@dataclass(frozen=True)
class NumbersConfig:
    """One tuple of integers, each a sinusoid of `width`; all are joined in order.

    `key` is what they are: "original_size" (height, width), "crop" (top, left), "target_size" (height, width).
    """

    key: Literal["original_size", "crop", "target_size"]
    absent: tuple[int, ...]  # what stands for a missing input
    width: int = 256
    kind: Literal["numbers"] = "numbers"


class Numbers(Embedder):
    """Never dropped in training. Absent: the numbers of the configuration."""

    slot = "vector"

    def __init__(self, config: NumbersConfig) -> None:
        super().__init__()
        self.config = config
        self.key = config.key  # one class serves three inputs

    def prepare(self, values: Sequence[Sequence[int] | None]) -> Tensor:
        return torch.tensor([list(self.config.absent if v is None else v) for v in values])  # (B, n)

    def forward(self, prepared: Tensor) -> Tensor:
        return sinusoid(prepared, self.config.width).flatten(1)  # (B, n · width)
