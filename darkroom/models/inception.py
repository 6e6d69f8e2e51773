"""The Inception network of the FID (Szegedy et al. 2015, in the weights of TensorFlow's graph of 2015-12-05).

Two oddities of that graph are kept, as the weights were trained with them: its mean pools leave the border's padding
out, and the last block pools by the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CLASSES", "SIDE", "WIDTH", "Inception"]

SIDE, WIDTH, CLASSES = 299, 2048, 1008


@dataclass(frozen=True)
class Layer:
    """A convolution: `stride` 1 keeps the size, 2 halves it without padding."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


@dataclass(frozen=True)
class Branch:
    """A pool, then layers one after the other; `fork` are two more, side by side on what comes out."""

    layers: tuple[Layer, ...] = ()
    fork: tuple[Layer, ...] = ()
    pool: Literal["mean", "max", "halve"] | None = None


def _chain(name: str, *layers: tuple[int, tuple[int, int]], halves: bool = False) -> tuple[Layer, ...]:
    """Layers of (width, kernel), numbered; the last one halves the size, if said."""
    last = len(layers) if halves else 0
    return tuple(Layer(f"{name}_{i}", *layer, stride=1 + (i == last)) for i, layer in enumerate(layers, start=1))


ONE, THREE, FIVE, WIDE, TALL = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)
HALVING = Branch(pool="halve")


def _a(pooled: int) -> tuple[Branch, ...]:
    return (
        Branch((Layer("branch1x1", 64),)),
        Branch(_chain("branch5x5", (48, ONE), (64, FIVE))),
        Branch(_chain("branch3x3dbl", (64, ONE), (96, THREE), (96, THREE))),
        Branch((Layer("branch_pool", pooled),), pool="mean"),
    )


def _c(n: int) -> tuple[Branch, ...]:
    return (
        Branch((Layer("branch1x1", 192),)),
        Branch(_chain("branch7x7", (n, ONE), (n, WIDE), (192, TALL))),
        Branch(_chain("branch7x7dbl", (n, ONE), (n, TALL), (n, WIDE), (n, TALL), (192, WIDE))),
        Branch((Layer("branch_pool", 192),), pool="mean"),
    )


def _e(pool: Literal["mean", "max"]) -> tuple[Branch, ...]:
    def fork(name: str) -> tuple[Layer, ...]:
        return Layer(f"{name}a", 384, (1, 3)), Layer(f"{name}b", 384, (3, 1))

    return (
        Branch((Layer("branch1x1", 320),)),
        Branch((Layer("branch3x3_1", 384),), fork("branch3x3_2")),
        Branch(_chain("branch3x3dbl", (448, ONE), (384, THREE)), fork("branch3x3dbl_3")),
        Branch((Layer("branch_pool", 192),), pool=pool),
    )


BLOCKS: dict[str, tuple[Branch, ...]] = {
    "Mixed_5b": _a(32),
    "Mixed_5c": _a(64),
    "Mixed_5d": _a(64),
    "Mixed_6a": (
        Branch((Layer("branch3x3", 384, THREE, 2),)),
        Branch(_chain("branch3x3dbl", (64, ONE), (96, THREE), (96, THREE), halves=True)),
        HALVING,
    ),
    "Mixed_6b": _c(128),
    "Mixed_6c": _c(160),
    "Mixed_6d": _c(160),
    "Mixed_6e": _c(192),
    "Mixed_7a": (
        Branch(_chain("branch3x3", (192, ONE), (320, THREE), halves=True)),
        Branch(_chain("branch7x7x3", (192, ONE), (192, WIDE), (192, TALL), (192, THREE), halves=True)),
        HALVING,
    ),
    "Mixed_7b": _e("mean"),
    "Mixed_7c": _e("max"),
}


class Inception(nn.Module):
    """Pictures (B, 3, 299, 299), (value − 128) / 128 of 0 … 255, to features (B, 2048). Frozen.

    Parameter names are those of the released file (`Mixed_5b.branch1x1.conv.weight`), so it loads as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, THREE, stride=2)
        self.Conv2d_2a_3x3 = Conv(32, 32, THREE)
        self.Conv2d_2b_3x3 = Conv(32, 64, THREE, padding=(1, 1))
        self.Conv2d_3b_1x1 = Conv(64, 80, ONE)
        self.Conv2d_4a_3x3 = Conv(80, 192, THREE)
        n = 192
        for name, branches in BLOCKS.items():
            block = Mixed(n, branches)
            self.add_module(name, block)
            n = block.width
        self.fc = nn.Linear(WIDTH, CLASSES)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images)))  # (B, 64, 147, 147)
        x = F.max_pool2d(x, 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)  # (B, 192, 35, 35)
        for name in BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean(dim=(2, 3))

    def classes(self, features: Tensor) -> Tensor:
        """Logits (B, 1008) of features. Without the layer's bias, as the Inception score was first computed."""
        return F.linear(features, self.fc.weight)


class Mixed(nn.Module):
    """Branches over one input, their outputs joined along the channels."""

    def __init__(self, n: int, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.branches = tuple(branches)
        self.width = 0
        for branch in branches:
            width = n
            for layer in branch.layers:
                self.add_module(layer.name, _conv(width, layer))
                width = layer.width
            for layer in branch.fork:
                self.add_module(layer.name, _conv(width, layer))
            self.width += sum(layer.width for layer in branch.fork) or width

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for branch in self.branches:
            y = _pooled(x, branch.pool)
            for layer in branch.layers:
                y = self.get_submodule(layer.name)(y)
            outputs += [self.get_submodule(layer.name)(y) for layer in branch.fork] or [y]
        return torch.cat(outputs, dim=1)


def _pooled(x: Tensor, pool: str | None) -> Tensor:
    match pool:
        case "mean":
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        case "max":
            return F.max_pool2d(x, 3, 1, 1)
        case "halve":
            return F.max_pool2d(x, 3, 2)
    return x


def _conv(n: int, layer: Layer) -> Conv:
    padding = (layer.kernel[0] // 2, layer.kernel[1] // 2) if layer.stride == 1 else (0, 0)
    return Conv(n, layer.width, layer.kernel, layer.stride, padding)


class Conv(nn.Module):
    def __init__(
        self, n_in: int, n_out: int, kernel: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(n_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))
