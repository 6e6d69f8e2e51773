"""A group norm, SiLU and a 3×3 convolution without gradients, also for maps that fit memory only once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.row_tiles import is_large, rows_per_tile

__all__ = ["add_in_place", "norm_conv"]


def norm_conv(norm: nn.GroupNorm, conv: nn.Conv2d, x: Tensor, *, in_place: bool = False) -> Tensor:
    """`conv` of SiLU of `norm` of x (B, C, H, W), for a 3×3 convolution that keeps the size. Without gradients only.

    On the CPU large maps are normed by tiles of rows, never as a whole; the result may then take the memory of x with
    `in_place`.
    """
    if not is_large(x) or norm._forward_hooks:  # adapters of a norm expect its whole output
        return conv(F.silu(norm(x), inplace=True))
    scale, shift = _affine(norm, x)
    batch, channels, height, width = x.shape
    y = x if in_place and conv.out_channels == channels else _map(batch, conv.out_channels, height, width, x.dtype)
    rows, last = rows_per_tile(x), None
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        above = 0 if last is None else 1  # the kernel sees a row more on either side, beyond the edges zeros
        tile = x[:, :, top : bottom + 1]
        z = _map(batch, channels, above + tile.shape[2], width, x.dtype)
        F.silu(torch.addcmul(shift, tile, scale, out=z[:, :, above:]), inplace=True)
        if last is not None:
            z[:, :, :1] = last
        row = above + bottom - top - 1
        last = z[:, :, row : row + 1].clone()  # what it was made of may be overwritten now
        y[:, :, top:bottom] = conv(z)[:, :, above : above + bottom - top]
    return y


def add_in_place(y: Tensor, layer: nn.Module, x: Tensor) -> Tensor:
    """y + layer(x) in the place of y, for a `layer` that works on each position of x (B, C, H, W) alone."""
    if not is_large(y):
        other = layer(x)
        return y.add_(other) if y.dtype == other.dtype else y + other
    for below, above in zip(y.split(rows_per_tile(x), dim=2), x.split(rows_per_tile(x), dim=2)):
        below += layer(above)
    return y


def _map(batch: int, channels: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    return torch.empty((batch, channels, height, width), dtype=dtype, memory_format=torch.channels_last)


def _affine(norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """(Scale, shift), each float32 (B, C, 1, 1), by which `norm` changes x (B, C, H, W).

    Means and variances of tiles are put together as Chan et al. 1979 do it.
    """
    batch, channels, height, width = x.shape
    shares, means, spreads = [], [], []
    for tile in x.split(rows_per_tile(x), dim=2):
        places = tile.shape[2] * width
        flat = tile.float().contiguous(memory_format=torch.channels_last)
        _, mean, reciprocal = torch.native_group_norm(
            flat, None, None, batch, channels, places, norm.num_groups, norm.eps
        )
        shares.append(tile.shape[2] / height)
        means.append(mean)
        spreads.append(reciprocal.double().pow(-2))  # variance + eps
    share = torch.tensor(shares, dtype=torch.float64)[:, None, None]
    each = torch.stack(means).double()  # (tiles, B, groups)
    mean = (share * each).sum(0)
    spread = (share * (torch.stack(spreads) + (each - mean).square())).sum(0)
    width_of_group = channels // norm.num_groups
    mean, factor = (v.repeat_interleave(width_of_group, dim=1) for v in (mean, spread.rsqrt()))  # (B, C)
    scale = factor * norm.weight.double()
    shift = norm.bias.double() - mean * scale
    return scale.float()[..., None, None], shift.float()[..., None, None]
