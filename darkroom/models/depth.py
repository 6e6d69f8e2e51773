"""Relative depth from one picture: MiDaS DPT-hybrid, a ResNet stem, a vision transformer and a decoder that joins them.

Written here because the reference takes any size whose sides are multiples of 32, which the class in transformers does
not, and because the stem's padding and weight standardisation are few lines once they need not be general.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.models.tower import TowerLayer, stretched_positions
from darkroom.nn.layers import Conv2d, Linear

__all__ = ["DepthConfig", "DepthEstimator", "depth_input"]


@dataclass(frozen=True)
class DepthConfig:
    stem: int  # channels
    stages: tuple[int, int, int]  # channels behind each stage of the stem, at strides 4, 8, 16
    blocks: tuple[int, int, int]
    width: int
    layers: int
    heads: int
    taps: tuple[int, int]  # layers whose output the decoder reads, beside the first two stages
    features: int  # channels of the decoder
    image_size: int = 384

    @property
    def side(self) -> int:
        """Of the grid of positions that was trained."""
        return self.image_size // 16


class StandardConv(nn.Conv2d):
    """Convolution without bias whose filters have mean 0 and variance 1, padded so that a stride divides evenly.

    Odd padding goes to the right and below.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(n_in, n_out, kernel, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # the argument's name
        w = self.weight
        variance, mean = torch.var_mean(w, dim=(1, 2, 3), keepdim=True, correction=0)
        return F.conv2d(
            _same(x, self.kernel_size[0], self.stride[0]), (w - mean) / (variance + 1e-8).sqrt(), None, self.stride
        )


def _same(x: Tensor, kernel: int, stride: int) -> Tensor:
    pads = []
    for size in (x.shape[-1], x.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Bottleneck(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int, *, first: bool) -> None:
        super().__init__()
        n = n_out // 4
        self.conv1, self.norm1 = StandardConv(n_in, n, 1), nn.GroupNorm(32, n)
        self.conv2, self.norm2 = StandardConv(n, n, 3, stride), nn.GroupNorm(32, n)
        self.conv3, self.norm3 = StandardConv(n, n_out, 1), nn.GroupNorm(32, n_out)
        self.shortcut = nn.Sequential(StandardConv(n_in, n_out, 1, stride), nn.GroupNorm(32, n_out)) if first else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResidualUnit(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(n, n, 3, padding=1)
        self.conv2 = Conv2d(n, n, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Fusion(nn.Module):
    """Adds a finer map to a coarse one and doubles the size."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.unit1 = ResidualUnit(n)  # of the coarsest fusion it is in the files, yet never runs
        self.unit2 = ResidualUnit(n)
        self.out = Conv2d(n, n, 1)

    def forward(self, x: Tensor, finer: Tensor | None) -> Tensor:
        if finer is not None:
            x = x + self.unit1(finer)
        return self.out(_doubled(self.unit2(x)))


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class DepthEstimator(nn.Module):
    """Images (B, 3, H, W) in [−1, 1], sides multiples of 32, to relative inverse depth (B, 1, H, W), near is large."""

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.stem_conv = StandardConv(3, c.stem, 7, 2)
        self.stem_norm = nn.GroupNorm(32, c.stem)
        stages, n = [], c.stem
        for i, (width, count) in enumerate(zip(c.stages, c.blocks)):
            blocks = [Bottleneck(n, width, 1 if i == 0 else 2, first=True)]
            blocks += [Bottleneck(width, width, 1, first=False) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            n = width
        self.stages = nn.ModuleList(stages)

        self.patch_embedding = Conv2d(n, c.width, 1)
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.width))
        self.position_embedding = nn.Parameter(torch.zeros(1, c.side**2 + 1, c.width))
        self.layers = nn.ModuleList(
            TowerLayer(c.width, c.heads, "gelu", causal=False, eps=1e-6) for _ in range(c.layers)
        )
        self.norm = nn.LayerNorm(c.width, 1e-6)  # in the files, though the decoder reads the layers before it

        self.readout = nn.ModuleList(Linear(2 * c.width, c.width) for _ in c.taps)
        self.project = nn.ModuleList(Conv2d(c.width, c.width, 1) for _ in c.taps)
        self.shrink = Conv2d(c.width, c.width, 3, stride=2, padding=1)
        maps = (*c.stages[:2], c.width, c.width)  # finest first
        self.reduce = nn.ModuleList(Conv2d(m, c.features, 3, padding=1, bias=False) for m in maps)
        self.fusions = nn.ModuleList(Fusion(c.features) for _ in maps)
        self.head1 = Conv2d(c.features, c.features // 2, 3, padding=1)
        self.head2 = Conv2d(c.features // 2, 32, 3, padding=1)
        self.head3 = Conv2d(32, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem_conv(images.to(self.stem_conv.weight.dtype))))
        x = F.max_pool2d(_same(x, 3, 2), 3, 2)  # padded by 0, the least value behind the relu
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        maps = [*maps[:2], *self._transformed(x)]

        maps = [reduce(m) for reduce, m in zip(self.reduce, maps)]
        x = self.fusions[3](maps[3], None)
        for i in (2, 1, 0):
            x = self.fusions[i](x, maps[i])
        x = _doubled(self.head1(x))
        return F.relu(self.head3(F.relu(self.head2(x))))

    def _transformed(self, x: Tensor) -> list[Tensor]:
        """The two tapped layers as maps at strides 16 and 32."""
        x = self.patch_embedding(x)
        height, width = x.shape[-2:]
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        x = x + stretched_positions(self.position_embedding, (height, width), mode="bilinear")
        tapped = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in self.config.taps:
                tapped.append(x)
        maps = []
        for y, readout, project in zip(tapped, self.readout, self.project):
            whole, places = y[:, :1], y[:, 1:]
            y = F.gelu(readout(torch.cat([places, whole.expand_as(places)], dim=-1)))
            maps.append(project(y.transpose(1, 2).unflatten(2, (height, width))))
        return [maps[0], self.shrink(maps[1])]


def depth_input(images: Tensor, size: int = 384) -> Tensor:
    """Images (B, 3, H, W) at the size that the estimator was trained for, aspect kept, sides multiples of 32.

    The side that needs the smaller change becomes `size`; bicubic without antialiasing, as the reference does it.
    """
    height, width = images.shape[-2:]
    scale = min(size / height, size / width, key=lambda s: abs(1 - s))
    sides = [max(round(side * scale / 32), 1) * 32 for side in (height, width)]
    return F.interpolate(images.float(), size=sides, mode="bicubic", align_corners=False)
