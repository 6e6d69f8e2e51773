"""Nearest neighbor ×2 and a 3×3 convolution in one, by kernels that are added up in advance."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.row_tiles import is_large, rows_per_tile

__all__ = ["SummedKernels"]


class SummedKernels:
    """The weights of `conv` that meet repetitions of one pixel are added up.

    A pixel of the result then takes four products instead of nine, by one of four kernels of 2×2 for even and odd rows
    and columns, and the enlarged map is never written. Kernels are kept until the weights change.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv = conv
        self._kept: tuple[tuple[object, ...], list[Tensor]] | None = None  # for which weights, and the four

    def enlarged(self, x: Tensor) -> Tensor:
        """`conv` of x (B, C, H, W) repeated by two, (B, C', 2H, 2W), on the CPU and without gradients."""
        batch, _, height, width = x.shape
        size = (batch, self.conv.out_channels, 2 * height, 2 * width)
        y = torch.empty(size, dtype=x.dtype, memory_format=torch.channels_last)
        rows = rows_per_tile(x) if is_large(x) else height
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            tile = F.pad(x[:, :, max(0, top - 1) : bottom + 1], (1, 1, int(top == 0), int(bottom == height)))
            for i, kernel in enumerate(self._kernels(x.dtype)):
                row, column = divmod(i, 2)
                part = tile[:, :, row : row + bottom - top + 1, column : column + width + 1]
                y[:, :, 2 * top + row : 2 * bottom : 2, column::2] = F.conv2d(part, kernel, self.conv.bias)
        return y

    def _kernels(self, dtype: torch.dtype) -> list[Tensor]:
        """(out, in, 2, 2) for even rows and columns, even rows and odd columns, and so on."""
        weight = self.conv.weight
        mark = (weight.data_ptr(), weight._version, dtype)
        if self._kept is None or self._kept[0] != mark:
            # An even row lies at the start of a pair: above it is another pixel, it and the one below are the same.
            rows = [_sums(weight.detach().float(), 2, odd=odd) for odd in (False, True)]
            kernels = [_sums(r, 3, odd=odd) for r in rows for odd in (False, True)]
            self._kept = mark, [k.to(dtype).contiguous(memory_format=torch.channels_last) for k in kernels]
        return self._kept[1]


def _sums(weight: Tensor, axis: int, *, odd: bool) -> Tensor:
    first, second, third = weight.unbind(axis)
    return torch.stack([first + second, third] if odd else [first, second + third], axis)
