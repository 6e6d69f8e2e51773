"""TAESD's decoder: latents to pictures in a few convolutions, for previews (madebyollin/taesd)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["TinyDecoder"]

# Of the published ones, which decode latents of Stable Diffusion.
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
    """Scaled latents (B, C, h, w) to images (B, 3, f·h, f·w) in [−1, 1], not clamped; f = 2^levels."""

    def __init__(self, latent_channels: int = 4, levels: int = LEVELS, width: int = WIDTH) -> None:
        super().__init__()
        self.latent_channels, self.factor = latent_channels, 2**levels
        layers: list[nn.Module] = [nn.Conv2d(latent_channels, width, 3, padding=1), nn.ReLU()]
        for _ in range(levels):
            layers += [TinyBlock(width), TinyBlock(width), TinyBlock(width), nn.Upsample(scale_factor=2)]
            layers.append(nn.Conv2d(width, width, 3, padding=1, bias=False))
        layers += [TinyBlock(width), nn.Conv2d(width, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x / 3).tanh() * 3) * 2 - 1  # far latents are bent in; its pictures lie in 0 … 1
