"""Maps that memory should hold only once: they are worked on by tiles of whole rows."""

from __future__ import annotations

from torch import Tensor

__all__ = ["is_large", "rows_per_tile"]

LARGE = 2**24  # values of a map: 64 MiB in float32
TILE = 2**23  # values that are worked on together


def is_large(x: Tensor) -> bool:
    """Whether x (B, C, H, W) is to go by tiles; only on the CPU, where allocating is slow and memory shared."""
    return x.device.type == "cpu" and x.numel() >= LARGE


def rows_per_tile(x: Tensor) -> int:
    """Rows of a tile. With a neighbor on either side they are a whole number of the tiles that convolutions take."""
    batch, channels, _, width = x.shape
    return max(8, TILE // (batch * channels * width) // 4 * 4) - 2
