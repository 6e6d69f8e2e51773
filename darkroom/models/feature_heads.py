"""Discriminator heads on features of frozen networks, conditioned by projection (StyleGAN-T, arXiv:2301.09515, 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from darkroom.errors import require

__all__ = ["FeatureHead", "HeadConfig", "LocalBatchNorm"]


@dataclass(frozen=True)
class HeadConfig:
    """`conditions`: widths of the embeddings that a logit depends on, by name; none: on the features alone."""

    width: int  # of the features
    conditions: Mapping[str, int]
    dims: int = 1  # 1: features are a sequence (B, C, N); 2: a map (B, C, h, w)
    kernel: int = 9
    projected: int = 64  # width in which features and conditions meet


class LocalBatchNorm(nn.Module):
    """Batch norm over groups of about eight consecutive rows, always of the batch itself, in evaluation, too.

    Groups are equal: as few as divide the batch and hold at most eight rows. So a row's result depends on the rows of
    its group and on no others.
    """

    rows = 8
    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, …)
        batch, channels = x.shape[:2]
        groups = next(g for g in range(-(-batch // self.rows), batch + 1) if batch % g == 0)
        y = x.reshape(groups, -1, channels, x[0, 0].numel())
        y = y - y.mean(dim=(1, 3), keepdim=True)
        y = y * (y.square().mean(dim=(1, 3), keepdim=True) + self.eps).rsqrt()
        y = y * self.weight[:, None] + self.bias[:, None]
        return y.reshape(x.shape)


class FeatureHead(nn.Module):
    """Features (B, C, N) or (B, C, h, w) and embeddings by name (B, width) to one logit a place (B, places).
    `InputError` for features of fewer places than half of the kernel."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.enter = _Block(c.width, 1, c.dims)
        self.residual = _Block(c.width, c.kernel, c.dims)
        self.out = _conv(c.width, c.projected if c.conditions else 1, 1, c.dims)
        self.maps = nn.ModuleDict({name: _EqualizedLinear(width, c.projected) for name, width in c.conditions.items()})

    def forward(self, features: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        places, least = tuple(features.shape[2:]), self.config.kernel // 2  # more cannot be padded around
        require(min(places) >= least, "the features' size", places, f"at least {least} on each side; larger pictures")
        x = self.enter(features)
        x = (x + self.residual(x)) / math.sqrt(2)
        y = self.out(x).flatten(2)  # (B, projected or 1, places)
        if not self.maps:
            return y[:, 0]
        told = sum(linear(conditions[name]) for name, linear in self.maps.items())
        return torch.einsum("bcn,bc->bn", y, told) / math.sqrt(self.config.projected)


class _Block(nn.Module):
    def __init__(self, channels: int, kernel: int, dims: int) -> None:
        super().__init__()
        self.conv = _conv(channels, channels, kernel, dims)
        self.norm = LocalBatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)


class _EqualizedLinear(nn.Module):
    """Weights N(0, 1) that are divided by the root of the inputs when used (arXiv:1710.10196)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / math.sqrt(self.weight.shape[1]), self.bias)


def _conv(n_in: int, n_out: int, kernel: int, dims: int) -> nn.Module:
    make = nn.Conv1d if dims == 1 else nn.Conv2d
    # Around the edges: a sequence of patches has no border that should look like one.
    mode = "circular" if kernel > 1 else "zeros"
    return spectral_norm(make(n_in, n_out, kernel, padding=kernel // 2, padding_mode=mode), eps=1e-12)
