"""A class index as one learned token (papers D.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from darkroom.conditioning.embedder import Embedder
from darkroom.errors import InputError

__all__ = ["ClassLabel", "ClassLabelConfig"]


@dataclass(frozen=True)
class ClassLabelConfig:
    """`rows` of the table. `null`: the row that stands for no class; None where the release has no such row."""

    rows: int
    width: int
    null: int | None
    drop_rate: float = 0.0
    kind: Literal["class_label"] = "class_label"


class ClassLabel(Embedder):
    """Absent: the null row, which is also the unconditional branch; without one, a class is required."""

    slot = "tokens"
    key = "class"

    def __init__(self, config: ClassLabelConfig) -> None:
        super().__init__()
        self.config = config
        self.drop_rate = config.drop_rate
        self.table = nn.Embedding(config.rows, config.width)

    def unconditional(self, value: int | None) -> int | None:
        return value if self.config.null is None else None

    def prepare(self, values: Sequence[int | None]) -> Tensor:
        return torch.tensor([self._row(v) for v in values])  # (B,)

    def _row(self, value: int | None) -> int:
        row = self.config.null if value is None else value
        if row is None or isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < self.config.rows:
            raise InputError(f"class is {value!r}, wanted is a whole number of 0 to {self.config.rows - 1}")
        return row

    def forward(self, prepared: Tensor) -> Tensor:
        return self.table(prepared)[:, None]  # (B, 1, width)
