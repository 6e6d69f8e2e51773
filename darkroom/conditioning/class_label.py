"""A class index as one learned token (papers D.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.errors import InputError

__all__ = ["ClassLabel", "ClassLabelConfig"]


@dataclass(frozen=True)
class ClassLabelConfig(EmbedderConfig):
    """`rows` of the table. `null`: the row that stands for no class; None where the release has no such row."""

    rows: int
    width: int
    null: int | None
    drop_rate: float = 0.0
    names: tuple[str, ...] = ()
    kind: Literal["class_label"] = "class_label"
    key = "class"
    reads = ("class",)

    @property
    def required(self) -> str:
        return f"a class of 0 to {self.rows - 1}" if self.null is None else ""


class ClassLabel(Embedder):
    """Absent: the null row, which is also the unconditional branch; without one, a class is required."""

    slot = "tokens"
    config: ClassLabelConfig

    def __init__(self, config: ClassLabelConfig) -> None:
        super().__init__(config)
        self.table = nn.Embedding(config.rows, config.width)

    def unconditional(self, value: int | None) -> int | None:
        return value if self.config.null is None else None

    def prepare(self, values: Sequence[int | None]) -> Tensor:
        return torch.tensor([self._row(v) for v in values])  # (B,)

    def _row(self, value: int | None) -> int:
        row = self.config.null if value is None else value
        if row is None or isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < self.config.rows:
            raise InputError(f"class is {value!r}, expected is a whole number of 0 to {self.config.rows - 1}")
        return row

    def forward(self, prepared: Tensor) -> Tensor:
        return self.table(prepared)[:, None]  # (B, 1, width)
