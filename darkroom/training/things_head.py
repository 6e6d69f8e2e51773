"""A head that holds the denoiser's features to what the picture-book world knows of its scenes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.data.source import COLOUR_NAMES, MAP_NAMES, PictureBook
from darkroom.models.unet import UNet
from darkroom.nn.blocks import group_norm
from darkroom.training.row_cache import RowCache

__all__ = ["ThingsHead", "ThingsMaps"]

MAP_SIDE = 32  # of the maps that `ThingsHead` learns from: four places a side for each of the UNet's coarsest


class ThingsMaps:
    """What lies where in the scenes, uint8 (B, 2, MAP_SIDE, MAP_SIDE), each drawn once: `PictureBook.things_map`."""

    def __init__(self, data: PictureBook, folder: Path | None) -> None:
        self.data = data
        self.cache = None
        if folder is not None:
            name = hashlib.sha256(f"{data.scenes} {MAP_NAMES}".encode()).hexdigest()[:16]
            shape = (2, MAP_SIDE, MAP_SIDE)
            self.cache = RowCache(folder / f"things-{name}.u8", len(data), shape, np.uint8, data.key)

    def get(self, numbers: Sequence[int]) -> Tensor:
        if self.cache is None:
            return torch.from_numpy(self._draw(numbers))
        if absent := self.cache.absent(numbers):
            self.cache.put(absent, self._draw(absent))
        return torch.from_numpy(self.cache.get(numbers))

    def _draw(self, numbers: Sequence[int]) -> np.ndarray:
        return np.stack([self.data.things_map(i, MAP_SIDE) for i in numbers])


class ThingsHead(nn.Module):
    """Reads off the UNet's features what lies at each place, things and their parts, and its colour. For training only.

    What a denoiser's features know of a picture decides how well it draws (Yu et al. 2024, representation alignment).
    The picture-book world knows the truth about its pictures, so the features are held to that: even under full noise
    they must say what the caption promises.
    """

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self.sizes = (1 + len(MAP_NAMES), 1 + len(COLOUR_NAMES))
        coarsest: Any = unet.up[0]
        width = unet.config.model_channels * unet.config.channel_mult[-1]
        self.norm = group_norm(width)
        self.out = nn.Conv2d(width, sum(self.sizes), 1)
        self.features: Tensor | None = None  # (B, width, h, w) of the UNet's last call
        coarsest.attentions[-1].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.features = output

    def forward(self, maps: Tensor) -> Tensor:
        """Cross-entropies (2,) of kinds and colours, meaned over all places, for maps (B, 2, H, W)."""
        assert self.features is not None, "the UNet has not been called"
        logits = self.out(F.silu(self.norm(self.features))).float()
        kinds, colours = (x.log_softmax(dim=1) for x in logits.split(self.sizes, dim=1))
        losses = []
        for i, found in enumerate((kinds, colours)):
            shares = F.one_hot(maps[:, i].long(), self.sizes[i]).permute(0, 3, 1, 2).float()  # (B, names, H, W)
            shares = F.adaptive_avg_pool2d(shares, found.shape[-2:])
            losses.append(-(shares * found).sum(dim=1).mean())
        return torch.stack(losses)
