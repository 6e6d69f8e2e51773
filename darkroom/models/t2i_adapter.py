"""T2I-Adapter: features of a hint picture, computed once a run (Mou et al. 2023, arXiv:2302.08453)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.models.control import Control
from darkroom.nn.layers import Conv2d

__all__ = ["T2IAdapter", "T2IAdapterConfig"]


@dataclass(frozen=True)
class T2IAdapterConfig:
    """SD1's and SD2's: a feature per level of the UNet. SDXL's: the last one is added behind the middle."""

    channels: tuple[int, ...]  # of each feature, the finest first
    num_res_blocks: int
    factor: int  # side of the patches of pixels that are folded into channels: 8, SDXL 16
    halved: tuple[bool, ...]  # features that are at half the size of the one before
    light: bool = False  # residual blocks of a quarter of the channels, between convolutions of 1×1
    hint_channels: int = 3


class T2IAdapter(nn.Module):
    def __init__(self, config: T2IAdapterConfig) -> None:
        super().__init__()
        c, n = config, config.hint_channels * config.factor**2
        self.config = config
        self.conv_in = None if c.light else Conv2d(n, c.channels[0], 3, padding=1)
        n = n if c.light else c.channels[0]
        stages = []
        for width, halved in zip(c.channels, c.halved, strict=True):
            stages.append(Stage(n, width, c.num_res_blocks, halved=halved, light=c.light))
            n = width
        self.stages = nn.ModuleList(stages)

    def forward(self, hint: Tensor) -> Control:
        """For all steps of a run, from a picture (B, 3, H, W) with values from 0 to 1."""
        hint = hint.mean(dim=1, keepdim=True) if self.config.hint_channels == 1 else hint
        x = F.pixel_unshuffle(hint, self.config.factor)
        if self.conv_in is not None:
            x = self.conv_in(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return Control(levels=tuple(features))


class Stage(nn.Module):
    """Pooling by two where the feature is halved, a change of width, residual blocks."""

    def __init__(self, n_in: int, n_out: int, count: int, *, halved: bool, light: bool) -> None:
        super().__init__()
        inner = n_out // 4 if light else n_out
        self.halved = halved
        self.conv_in = Conv2d(n_in, inner, 1) if light or n_in != n_out else nn.Identity()
        self.blocks = nn.Sequential(*(Residual(inner, 3 if light else 1) for _ in range(count)))
        self.conv_out = Conv2d(inner, n_out, 1) if light else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 2, ceil_mode=True) if self.halved else x
        return self.conv_out(self.blocks(self.conv_in(x)))


class Residual(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, channels, 3, padding=1)
        self.conv2 = Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))
