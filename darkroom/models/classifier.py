"""A classifier of things, whose features measure perceptual distance where no VGG weights are at hand."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Classifier", "ClassifierConfig"]


@dataclass(frozen=True)
class ClassifierConfig:
    labels: tuple[str, ...]
    width: int  # channels of the first stage


class Classifier(nn.Module):
    """Four stages of convolutions at strides 1, 2, 4, 8; multi-label logits for every cell of stride 16."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        widths = (w, 2 * w, 4 * w, 6 * w)
        self.stages = nn.ModuleList()
        n = 3
        for i, width in enumerate(widths):
            layers: list[nn.Module] = [*_conv(n, width, 1 if i == 0 else 2)]
            if i > 0:
                layers += _conv(width, width, 1)
            self.stages.append(nn.Sequential(*layers))
            n = width
        self.tail = nn.Sequential(*_conv(n, 2 * n, 2), *_conv(2 * n, 2 * n, 1))
        self.head = nn.Conv2d(2 * n, len(config.labels), 1)
        nn.init.constant_(self.head.bias, -3.0)  # type: ignore[arg-type]  # most labels are absent: start there

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps (B, C, H/s, W/s) for s = 2, 4, 8 of images (B, 3, H, W) in [-1, 1]."""
        x = self.stages[0](images)  # full resolution says little that the pixels do not
        maps = []
        for stage in self.stages[1:]:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> Tensor:  # (B, labels, H/16, W/16)
        return self.head(self.tail(self.features(images)[-1]))


def _conv(n_in: int, n_out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
