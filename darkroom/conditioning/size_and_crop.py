"""SDXL's micro-conditioning: original size, crop and target size as sinusoids (papers D.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from darkroom.conditioning.embedder import Embedder
from darkroom.errors import InputError
from darkroom.nn.embeddings import sinusoid
from darkroom.types import Size

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

    def prepare(self, values: Sequence[Size | Sequence[int] | None]) -> Tensor:
        return torch.tensor([self._row(v) for v in values])  # (B, n)

    def _row(self, value: Size | Sequence[int] | None) -> list[int]:
        row = self.config.absent if value is None else value
        row = (row.height, row.width) if isinstance(row, Size) else row
        n = len(self.config.absent)
        whole = isinstance(row, (list, tuple)) and all(isinstance(v, Integral) and not isinstance(v, bool) for v in row)
        if not whole or len(row) != n:
            raise InputError(f"{self.key} is {value!r}, wanted are {n} whole numbers")
        return [int(v) for v in row]

    def forward(self, prepared: Tensor) -> Tensor:
        return sinusoid(prepared, self.config.width).flatten(1)  # (B, n · width)
