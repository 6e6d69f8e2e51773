"""TAESD's decoder: latents to pictures in a few convolutions, for previews (madebyollin/taesd)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["TinyDecoder"]

WIDTH = 64
LEVELS = 3  # doublings: f = 8


class TinyBlock(nn.Module):
    """Three convolutions with ReLU beside the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv(x))


class TinyDecoder(nn.Module):
    """Scaled latents (B, C, h, w) to images (B, 3, 8h, 8w) in [−1, 1], not clamped."""

    def __init__(self, latent_channels: int = 4) -> None:
        super().__init__()
        self.latent_channels, self.factor = latent_channels, 2**LEVELS
        layers: list[nn.Module] = [nn.Conv2d(latent_channels, WIDTH, 3, padding=1), nn.ReLU()]
        for _ in range(LEVELS):
            layers += [TinyBlock(WIDTH), TinyBlock(WIDTH), TinyBlock(WIDTH), nn.Upsample(scale_factor=2)]
            layers.append(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False))
        layers += [TinyBlock(WIDTH), nn.Conv2d(WIDTH, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x / 3).tanh() * 3) * 2 - 1  # far latents are bent in; its pictures lie in 0 … 1
