"""Down- and upsampling by two."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.layers import Conv2d
from darkroom.nn.stripes import is_large, stripe_rows

__all__ = ["Downsample", "Upsample"]


class Downsample(nn.Module):
    """3×3 convolution of stride 2. The UNet pads all round, the first stage only right and below (`asymmetric`)."""

    def __init__(self, channels: int, *, asymmetric: bool = False) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H/2, W/2)
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Nearest neighbour ×2, then a 3×3 convolution.

    Weights that meet repetitions of one pixel can be added up in advance. A pixel of the result then takes four
    products instead of nine, by one of four kernels of 2×2 for even and odd rows and columns, and the enlarged map is
    never written.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)
        self._kernels: tuple[tuple[object, ...], list[Tensor]] | None = None  # for which weights, and the four

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, 2H, 2W)
        if self._whole(x):
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        height, width = x.shape[-2:]
        y = torch.empty(
            x.shape[0],
            self.conv.out_channels,
            2 * height,
            2 * width,
            dtype=x.dtype,
            memory_format=torch.channels_last,
        )
        rows = stripe_rows(x) if is_large(x) else height
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            stripe = F.pad(x[:, :, max(0, top - 1) : bottom + 1], (1, 1, int(top == 0), int(bottom == height)))
            for i, kernel in enumerate(self._summed(x.dtype)):
                row, column = divmod(i, 2)
                part = stripe[:, :, row : row + bottom - top + 1, column : column + width + 1]
                y[:, :, 2 * top + row : 2 * bottom : 2, column::2] = F.conv2d(part, kernel, self.conv.bias)
        return y

    def _whole(self, x: Tensor) -> bool:
        """Training, other devices, and layers that something hooks into take the convolution as it is."""
        weight = self.conv.weight
        if torch.is_grad_enabled() or self.training or x.device.type != "cpu" or weight.is_inference():
            return True
        return bool(self.conv._forward_hooks or self.conv._forward_pre_hooks)

    def _summed(self, dtype: torch.dtype) -> list[Tensor]:
        """Kernels (out, in, 2, 2) of even rows and columns, even rows and odd columns, and so on; kept until the
        weights change."""
        weight = self.conv.weight
        mark = (weight.data_ptr(), weight._version, dtype)
        if self._kernels is None or self._kernels[0] != mark:
            # An even row lies at the start of a pair: above it is another pixel, it and the one below are the same.
            rows = [_sums(weight.detach().float(), 2, odd=odd) for odd in (False, True)]
            kernels = [_sums(r, 3, odd=odd) for r in rows for odd in (False, True)]
            last = torch.channels_last
            self._kernels = mark, [k.to(dtype).contiguous(memory_format=last) for k in kernels]
        return self._kernels[1]


def _sums(weight: Tensor, axis: int, *, odd: bool) -> Tensor:
    first, second, third = weight.unbind(axis)
    return torch.stack([first + second, third] if odd else [first, second + third], axis)
