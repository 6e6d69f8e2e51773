"""DINOv2's vision transformer (arXiv:2304.07193), plain or with registers (arXiv:2309.16588): ViT-S, B and L, patch 14.

Self-supervised features of any picture: a discriminator reads them block by block, metrics by their class token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.models.tower import TowerLayer, stretched_positions
from darkroom.nn.layers import Conv2d

__all__ = ["DINO_SMALL", "Dino", "DinoConfig", "normalize_image"]

MEAN = (0.485, 0.456, 0.406)  # of ImageNet
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class DinoConfig:
    width: int
    layers: int
    heads: int
    registers: int = 0  # extra tokens behind the class token
    patch: int = 14
    image_size: int = 518  # of the grid of positions in the file

    @property
    def side(self) -> int:
        return self.image_size // self.patch

    @property
    def position_offset(self) -> float:
        """What the release adds to the sides of a stretched grid before it divides; nothing beside registers."""
        return 0.0 if self.registers else 0.1


DINO_SMALL = DinoConfig(width=384, layers=12, heads=6)


class Dino(nn.Module):
    """Normalized pictures (B, 3, H, W), sides multiples of the patch, to class tokens (B, width) after the norm."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.width))
        self.registers = nn.Parameter(torch.zeros(1, c.registers, c.width)) if c.registers else None
        self.patch_embedding = Conv2d(3, c.width, c.patch, stride=c.patch)
        self.position_embedding = nn.Parameter(torch.zeros(1, c.side**2 + 1, c.width))
        self.layers = nn.ModuleList(
            TowerLayer(c.width, c.heads, "gelu", causal=False, eps=1e-6, scaled=True) for _ in range(c.layers)
        )
        self.norm = nn.LayerNorm(c.width, 1e-6)

    def forward(self, images: Tensor) -> Tensor:
        (x,) = self.tokens(images, (self.config.layers,))
        return self.norm(x[:, 0])

    def tokens(self, images: Tensor, depths: Sequence[int]) -> list[Tensor]:
        """Token sequences (B, 1 + patches, width), class token first, registers left out, behind so many blocks each.

        0: with positions, before the first block. None of them has passed the final norm. Blocks behind the deepest one
        are not run.
        """
        x = self._embed(images)
        found = {0: x}
        for i, layer in enumerate(self.layers[: max(depths)], start=1):
            x = layer(x)
            found[i] = x
        first = 1 + self.config.registers
        return [
            torch.cat([found[d][:, :1], found[d][:, first:]], dim=1) if self.config.registers else found[d]
            for d in depths
        ]

    def _embed(self, images: Tensor) -> Tensor:
        x = self.patch_embedding(images.to(self.patch_embedding.weight.dtype))
        height, width = x.shape[-2:]
        whole = self.class_token.expand(len(x), -1, -1)
        x = torch.cat([whole, x.flatten(2).transpose(1, 2)], dim=1)
        x = x + self._positions(height, width)
        if self.registers is None:
            return x
        return torch.cat([x[:, :1], self.registers.expand(len(x), -1, -1), x[:, 1:]], dim=1)

    def _positions(self, height: int, width: int) -> Tensor:
        """(1, 1 + height · width, width) of a grid of patches."""
        c = self.config
        if (height, width) == (c.side, c.side):
            return self.position_embedding
        return stretched_positions(
            self.position_embedding,
            (height, width),
            mode="bicubic",
            offset=c.position_offset,
            antialias=c.registers > 0,
        )


def normalize_image(images: Tensor, size: int | None = None) -> Tensor:
    """Images (B, 3, H, W) in [−1, 1] to the network's input, by area interpolation at size² where one is given."""
    x = images.float()
    if size is not None and tuple(x.shape[-2:]) != (size, size):
        x = F.adaptive_avg_pool2d(x, size)
    mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (MEAN, STD))
    return ((x + 1) / 2 - mean) / std
