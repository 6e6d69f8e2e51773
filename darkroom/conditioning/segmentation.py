"""A semantic map beside the latent (papers D.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.errors import InputError
from darkroom.types import Request, Size

__all__ = ["Segmentation", "SegmentationConfig"]

ABSENT = -1  # the index of a position without any class


@dataclass(frozen=True)
class SegmentationConfig(EmbedderConfig):
    """`halvings` by bilinear interpolation bring the map to the latent's size; they are log2 of the factor f."""

    classes: int
    channels: int
    halvings: int
    drop_rate: float = 0.0
    names: tuple[str, ...] = ()
    kind: Literal["segmentation"] = "segmentation"
    key = "segmentation"
    reads = ("segmentation",)
    required = "a map (H, W) of classes"


class Segmentation(Embedder):
    """One-hot classes, halved, then mixed to few channels by a 1×1 convolution that is trained with the denoiser.

    A map (H, W) of class indices has the size of the picture. Absent: no class anywhere, zeros behind the convolution.
    """

    slot = "channels"
    config: SegmentationConfig

    def __init__(self, config: SegmentationConfig) -> None:
        super().__init__(config)
        self.mix = nn.Conv2d(config.classes, config.channels, 1, bias=False)
        nn.init.normal_(self.mix.weight)  # a table of classes: what it gives is as large as the latent beside it

    def read(self, request: Request, size: Size, generator: Generator) -> Tensor | None:
        value = request.inputs.get(self.key)
        if value is None:
            return None
        array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.ndim != 2 or array.dtype.kind not in "ui" or 0 in array.shape:
            found = f"{list(array.shape)} of {array.dtype}"
            raise InputError(f"segmentation has shape {found}, expected are classes (H, W)")
        rows = np.arange(size.height) * array.shape[0] // size.height
        columns = np.arange(size.width) * array.shape[1] // size.width
        return torch.from_numpy(array[rows][:, columns].astype(np.int64))  # to the nearest: classes cannot be mixed

    def prepare(self, values: Sequence[Tensor | None]) -> Tensor:
        shapes = {tuple(v.shape) for v in values if v is not None} or {(1, 1)}
        shape = shapes.pop()
        if shapes or len(shape) != 2:
            raise InputError(f"segmentation must be maps (H, W) of one size a batch, one is {list(shape)}")
        maps = torch.stack([torch.full(shape, ABSENT) if v is None else v.long() for v in values])
        if maps.min() < ABSENT or maps.max() >= self.config.classes:
            worst = int(maps.max() if maps.max() >= self.config.classes else maps.min())
            raise InputError(f"segmentation holds class {worst}, expected are 0 to {self.config.classes - 1}")
        return maps  # (B, H, W)

    def forward(self, prepared: Tensor) -> Tensor:
        if prepared.shape[-1] < 2**self.config.halvings:
            raise InputError("segmentation is missing: this system needs a map (H, W) of classes")
        x = F.one_hot(prepared + 1, self.config.classes + 1)[..., 1:].movedim(-1, 1).to(self.mix.weight.dtype)
        for _ in range(self.config.halvings):
            x = F.interpolate(x, scale_factor=0.5, mode="bilinear")
        return self.mix(x)  # (B, channels, H/f, W/f)
