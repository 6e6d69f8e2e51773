"""CLIP's vision tower with projection, for image prompts: OpenAI's ViT-L/14, OpenCLIP's ViT-H/14 and ViT-bigG/14.

Written here for the same reasons as the text tower, with which it shares its layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.models.tower import Activation, TowerLayer
from darkroom.nn.layers import Conv2d, Linear

__all__ = ["VisionConfig", "VisionTower", "cropped_for_tower", "prepare_image"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class VisionConfig:
    width: int
    layers: int
    heads: int
    activation: Activation
    projection: int
    patch: int = 14
    image_size: int = 224
    inner: int | None = None  # width of the feed-forward layers; four times `width` by default

    @property
    def positions(self) -> int:
        """One for each patch and one for the whole image."""
        return (self.image_size // self.patch) ** 2 + 1


class VisionTower(nn.Module):
    """Prepared images (B, 3, S, S) to embeddings (B, projection), not normalized to unit length."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.class_embedding = nn.Parameter(torch.empty(c.width))
        nn.init.normal_(self.class_embedding, 0.0, c.width**-0.5)
        self.patch_embedding = Conv2d(3, c.width, c.patch, stride=c.patch, bias=False)
        self.position_embedding = nn.Embedding(c.positions, c.width)
        self.norm_in = nn.LayerNorm(c.width)
        self.layers = nn.ModuleList(
            TowerLayer(c.width, c.heads, c.activation, causal=False, inner=c.inner) for _ in range(c.layers)
        )
        self.norm_out = nn.LayerNorm(c.width)
        self.projection = Linear(c.width, c.projection, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.projection(self.norm_out(self.positions(images)[:, 0]))

    def positions(self, images: Tensor, *, skip: int = 0) -> Tensor:
        """What the last layer but `skip` gives for the whole image and each patch: (B, 1 + patches, width)."""
        patches = self.patch_embedding(images.to(self.patch_embedding.weight.dtype)).flatten(2).transpose(1, 2)
        whole = self.class_embedding.expand(len(images), 1, -1)
        x = torch.cat([whole, patches], dim=1) + self.position_embedding.weight  # (B, 1 + patches, width)
        x = self.norm_in(x)
        for layer in self.layers[: len(self.layers) - skip]:
            x = layer(x)
        return x


def prepare_image(images: Tensor, size: int = 224) -> Tensor:
    """Images (B, 3, H, W) in [−1, 1] to the tower's input (B, 3, size, size), whatever their aspect.

    As in the reference of stable unCLIP: a Gaussian blur of sigma (scale − 1) / 2 per axis where the image shrinks,
    then bicubic interpolation with aligned corners, then CLIP's mean and deviation. Diffusers crops the centre instead.
    """
    factors = (images.shape[-2] / size, images.shape[-1] / size)
    if max(factors) > 1:
        images = _blur(images.float(), [max((f - 1) / 2, 0.001) for f in factors])
    x = F.interpolate(images.float(), size=(size, size), mode="bicubic", align_corners=True)
    return _standardized((x + 1) / 2)


def cropped_for_tower(pixels: np.ndarray, size: int = 224) -> Tensor:
    """A picture uint8 (H, W, 3) as the tower's input (1, 3, size, size), as CLIP itself and transformers have it: the
    shorter side by Pillow's bicubic, the middle cut out."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    sides = (size * width // short, size * height // short)
    scaled = Image.fromarray(pixels).resize(sides, Image.Resampling.BICUBIC)
    left, top = (sides[0] - size) // 2, (sides[1] - size) // 2
    cut = np.array(scaled.crop((left, top, left + size, top + size)))
    return _standardized(torch.from_numpy(cut).permute(2, 0, 1)[None].float() / 255)


def _standardized(x: Tensor) -> Tensor:
    """Values from 0 to 1 by CLIP's mean and deviation."""
    mean = torch.tensor(MEAN, device=x.device).view(3, 1, 1)
    std = torch.tensor(STD, device=x.device).view(3, 1, 1)
    return (x - mean) / std


def _blur(images: Tensor, sigmas: list[float]) -> Tensor:
    """Separable Gaussian, 4 sigma wide (at least 3 taps, an odd number), reflected at the border."""
    for axis, sigma in zip((-2, -1), sigmas):
        taps = int(max(4 * sigma, 3))
        taps += 1 - taps % 2
        offsets = torch.arange(taps, dtype=torch.float32, device=images.device) - taps // 2
        kernel = torch.exp(-0.5 * (offsets / sigma).square())
        kernel = kernel / kernel.sum()
        pad, shape = [0, 0, 0, 0], [3, 1, 1, 1]
        first = 2 if axis == -2 else 0
        pad[first] = pad[first + 1] = taps // 2
        shape[axis] = taps
        images = F.conv2d(F.pad(images, pad, mode="reflect"), kernel.expand(3, taps).reshape(shape), groups=3)
    return images
