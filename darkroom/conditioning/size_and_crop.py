"""SDXL's micro-conditioning: original size, crop and target size as sinusoids (papers D.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from torch import Generator, Tensor

from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.errors import InputError
from darkroom.nn.embeddings import sinusoid
from darkroom.types import Request, Size

__all__ = ["Numbers", "NumbersConfig"]


@dataclass(frozen=True)
class NumbersConfig(EmbedderConfig):
    """One tuple of integers, each a sinusoid of `width`; all are joined in order.

    `key` is what they are: "original_size" (height, width), "crop" (top, left), "target_size" (height, width).
    """

    key: Literal["original_size", "crop", "target_size"]
    absent: tuple[int, ...]  # what stands for a missing input
    width: int = 256
    kind: Literal["numbers"] = "numbers"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.key,)


class Numbers(Embedder):
    """Never dropped in training. Absent: the numbers of the configuration."""

    slot = "vector"
    config: NumbersConfig

    def read(self, request: Request, size: Size, generator: Generator) -> Size | Sequence[int]:
        """What the inputs say, else that the picture was never another size and nothing was cut off (papers D.5)."""
        value = request.inputs.get(self.key)
        if value is None:
            return (0, 0) if self.key == "crop" else size
        return value

    def prepare(self, values: Sequence[Size | Sequence[int] | None]) -> Tensor:
        return torch.tensor([self._row(v) for v in values])  # (B, n)

    def _row(self, value: Size | Sequence[int] | None) -> list[int]:
        row = self.config.absent if value is None else value
        row = (row.height, row.width) if isinstance(row, Size) else row
        n = len(self.config.absent)
        whole = isinstance(row, (list, tuple)) and all(isinstance(v, Integral) and not isinstance(v, bool) for v in row)
        if not whole or len(row) != n:
            raise InputError(f"{self.key} is {value!r}, expected are {n} whole numbers")
        return [int(v) for v in row]

    def forward(self, prepared: Tensor) -> Tensor:
        return sinusoid(prepared, self.config.width).flatten(1)  # (B, n · width)
