"""The patch discriminator of the first stage (pix2pix, papers B.2)."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["PatchDiscriminator"]


class PatchDiscriminator(nn.Module):
    """4×4 convolutions, `layers` of stride 2, then two of stride 1; one logit per patch (70 pixels for three layers).

    Weights N(0, 0.02), norm weights N(1, 0.02).
    """

    def __init__(self, layers: int = 3, channels: int = 64) -> None:
        super().__init__()
        n = channels
        main: list[nn.Module] = [nn.Conv2d(3, n, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        for i in range(1, layers + 1):
            n_in, n = n, channels * min(2**i, 8)
            stride = 2 if i < layers else 1
            main += [nn.Conv2d(n_in, n, 4, stride, 1, bias=False), nn.BatchNorm2d(n), nn.LeakyReLU(0.2, inplace=True)]
        main.append(nn.Conv2d(n, 1, 4, 1, 1))
        self.main = nn.Sequential(*main)
        for module in self.main:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 1, h, w)
        return self.main(images)
