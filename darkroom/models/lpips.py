"""LPIPS (Zhang et al. 2018): a learned weighting of VGG16's features. Its weights come with released first stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LPIPS"]

# Where VGG16's feature list is cut: after the activation of each block's last convolution.
CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)


class LPIPS(nn.Module):
    """Distance of pictures (B, 3, H, W) in [−1, 1]: (B,). Frozen; parameter names are those of released files
    (`net.slice1.0.weight`, `lin0.model.1.weight`, `scaling_layer.shift`), so they load as they are.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scaling_layer = nn.Module()
        self.scaling_layer.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.scaling_layer.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.net = nn.Module()
        n, index = 3, 0
        for block, (channels, count) in enumerate(zip(CHANNELS, CONVOLUTIONS), start=1):
            layers = nn.Sequential()
            if block > 1:  # numbers run on through the whole of VGG: a pool, then convolutions and activations in turn
                layers.add_module(str(index), nn.MaxPool2d(2))
                index += 1
            for _ in range(count):
                layers.add_module(str(index), nn.Conv2d(n, channels, 3, padding=1))
                layers.add_module(str(index + 1), nn.ReLU())
                n, index = channels, index + 2
            self.net.add_module(f"slice{block}", layers)
        for i, channels in enumerate(CHANNELS):  # behind a dropout that does nothing in use
            lin = nn.Module()
            lin.model = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))
            self.add_module(f"lin{i}", lin)
        self.eval().requires_grad_(False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps at strides 1, 2, 4, 8, 16."""
        x = (images - self.scaling_layer.shift) / self.scaling_layer.scale  # type: ignore[operator]
        maps = []
        for slice_ in self.net.children():
            x = slice_(x)
            maps.append(x)
        return maps

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Σ over maps of the spatial mean of lin(squared difference of unit-normalized features)."""
        total = torch.zeros(len(a), device=a.device)
        for i, (x, y) in enumerate(zip(self.features(a), self.features(b))):
            lin = self.get_submodule(f"lin{i}.model")
            total = total + lin((_unit(x) - _unit(y)).square()).float().mean(dim=(1, 2, 3))
        return total


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
