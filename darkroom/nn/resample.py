"""Down- and upsampling by two. Both take an embedding like the residual blocks that may stand in their place."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.layers import Conv2d

__all__ = ["Downsample", "Upsample"]


class Downsample(nn.Module):
    """3×3 convolution of stride 2. The UNet pads all round, the first stage only right and below (`asymmetric`)."""

    def __init__(self, channels: int, *, asymmetric: bool = False) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = Conv2d(channels, channels, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:  # (B, C, H, W) -> (B, C, H/2, W/2)
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Nearest neighbor ×2, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:  # (B, C, H, W) -> (B, C, 2H, 2W)
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
