"""Feature vectors that are given as they are, such as the retrieved neighbours of retrieval-augmented diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.conditioning.embedder import Embedder
from darkroom.errors import InputError

__all__ = ["Vectors", "VectorsConfig"]


@dataclass(frozen=True)
class VectorsConfig:
    width: int
    key: str = "vectors"
    drop_rate: float = 0.0
    kind: Literal["vectors"] = "vectors"


class Vectors(Embedder):
    """Each picture gives (n, width), the same n in a batch. Absent: zeros."""

    slot = "tokens"
    guided = True

    def __init__(self, config: VectorsConfig) -> None:
        super().__init__()
        self.config = config
        self.key = config.key
        self.drop_rate = config.drop_rate

    def prepare(self, values: Sequence[Tensor | None]) -> Tensor:
        width = self.config.width
        shapes = {tuple(v.shape) for v in values if v is not None} or {(1, width)}
        shape = shapes.pop()
        if shapes or len(shape) != 2 or shape[1] != width:
            raise InputError(f"{self.key} must be tensors (n, {width}) with one n a batch, one is {list(shape)}")
        return torch.stack([torch.zeros(shape) if v is None else v.float() for v in values])  # (B, n, width)

    def forward(self, prepared: Tensor) -> Tensor:
        return prepared
