"""Large pictures through the first stage in overlapping tiles that fade into each other."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from darkroom.errors import InputError

__all__ = ["tile_for", "tiled"]

TILE = 128  # latent positions a side: what SDXL decodes at 1024 px; larger latents are decoded in tiles


def tile_for(height: int, width: int) -> int | None:
    """The tile that latents of this size go through the first stage in; None: whole."""
    return TILE if max(height, width) > TILE else None


def tiled(function: Callable[[Tensor], Tensor], x: Tensor, tile: int, overlap: int, scale: Fraction | int) -> Tensor:
    """`function` over x (B, C, H, W) in tiles of `tile` × `tile` positions that share `overlap`, put together again.

    `function` changes the sides by `scale` (8 for a decoder of f = 8, 1/8 for its encoder); `tile` and `overlap` times
    `scale` must be whole. Neighbours are mixed with weights that rise evenly across what they share, so no seam shows
    where their group norms differ. Memory is that of one tile and of the result.
    """
    if not 0 <= overlap <= tile // 2 or tile < 1:
        raise InputError(f"tiles of {tile} with {overlap} shared are not possible; at most half a tile can be shared")
    if (tile * scale) % 1 or (overlap * scale) % 1:
        raise InputError(f"tiles of {tile} with {overlap} shared do not scale by {scale}; expected are multiples")
    height, width = x.shape[-2:]
    if height <= tile and width <= tile:
        return function(x)
    result: Tensor | None = None
    total = torch.zeros(1, 1, int(height * scale), int(width * scale), device=x.device)
    for top in _starts(height, tile, overlap):
        for left in _starts(width, tile, overlap):
            y = function(x[..., top : top + tile, left : left + tile])
            y_top, y_left = int(top * scale), int(left * scale)
            rows = _ramp(y.shape[-2], int(overlap * scale), first=top == 0, last=top + tile >= height)
            columns = _ramp(y.shape[-1], int(overlap * scale), first=left == 0, last=left + tile >= width)
            weight = (rows[:, None] * columns).to(x.device)
            if result is None:
                result = torch.zeros(*y.shape[:2], *total.shape[-2:], device=x.device)
            area = (..., slice(y_top, y_top + y.shape[-2]), slice(y_left, y_left + y.shape[-1]))
            result[area] += weight * y.float()
            total[area] += weight
    assert result is not None
    return result / total


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin; the last one ends at `length`, sharing more if need be."""
    if length <= tile:
        return [0]
    stride = tile - overlap
    return [*range(0, length - tile, stride), length - tile]


def _ramp(length: int, overlap: int, *, first: bool, last: bool) -> Tensor:
    """Weights (length,): one in the middle, rising over `overlap` at either end that has a neighbour; never zero."""
    weight = torch.ones(length)
    rise = (torch.arange(overlap) + 0.5) / max(overlap, 1)
    if overlap and not first:
        weight[:overlap] = rise
    if overlap and not last:
        weight[-overlap:] = torch.minimum(weight[-overlap:], rise.flip(0))
    return weight
