"""Feature vectors that are given as they are, such as the retrieved neighbours of retrieval-augmented diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.errors import InputError
from darkroom.types import Request, Size

__all__ = ["Vectors", "VectorsConfig"]


@dataclass(frozen=True)
class VectorsConfig(EmbedderConfig):
    width: int
    key: str = "vectors"
    drop_rate: float = 0.0
    kind: Literal["vectors"] = "vectors"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.key,)


class Vectors(Embedder):
    """Each picture gives (n, width), the same n in a batch. Absent: zeros."""

    slot = "tokens"
    guided = True
    config: VectorsConfig

    def read(self, request: Request, size: Size, generator: Generator) -> Tensor | None:
        value = request.inputs.get(self.key)
        try:
            return (
                value if value is None or isinstance(value, Tensor) else torch.as_tensor(np.asarray(value, np.float32))
            )
        except (TypeError, ValueError):
            raise InputError(f"{self.key} is no table of numbers, expected are n rows of {self.config.width}") from None

    def prepare(self, values: Sequence[Tensor | None]) -> Tensor:
        width = self.config.width
        shapes = {tuple(v.shape) for v in values if v is not None} or {(1, width)}
        shape = shapes.pop()
        if shapes or len(shape) != 2 or shape[1] != width:
            raise InputError(f"{self.key} must be tensors (n, {width}) with one n a batch, one is {list(shape)}")
        return torch.stack([torch.zeros(shape) if v is None else v.float() for v in values])  # (B, n, width)

    def forward(self, prepared: Tensor) -> Tensor:
        return prepared
