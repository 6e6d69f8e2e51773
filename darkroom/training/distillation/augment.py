"""Differentiable augmentation of what a discriminator sees (DiffAugment, arXiv:2006.10738, as StyleGAN-T sets it)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.diffusion.draws import RowDraws

__all__ = ["augmented", "cropped"]


def augmented(images: Tensor, draws: RowDraws) -> Tensor:
    """Images (B, 3, H, W) in [−1, 1], each with draws of its own: brightness ± 0.5, saturation by 0 to 2, contrast by
    0.5 to 1.5, a shift by up to an eighth of the sides with zeros behind it, one hole of a fifth of the sides."""
    share = draws.uniform(7).to(images)
    brightness, saturation, contrast = (share[:, i].view(-1, 1, 1, 1) for i in range(3))
    x = images + (brightness - 0.5)
    gray = x.mean(dim=1, keepdim=True)
    x = gray + (x - gray) * (2 * saturation)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (contrast + 0.5)
    return _with_hole(_shifted(x, share[:, 3:5]), share[:, 5:7])


def cropped(images: Tensor, draws: RowDraws, side: int, rate: float = 0.5) -> Tensor:
    """Images (B, 3, H, W) at side²: by area interpolation of the whole, or of a crop of side² at `rate`.

    Crops are taken only of larger pictures. Each row decides for itself, so that it does not depend on the batch.
    """
    share = draws.uniform(3).tolist()
    height, width = images.shape[-2:]
    rows = []
    for image, (chance, down, right) in zip(images.split(1), share):
        if chance < rate and min(height, width) > side:
            top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
            image = image[..., top : top + side, left : left + side]
        rows.append(F.adaptive_avg_pool2d(image, side))
    return torch.cat(rows)


def _shifted(x: Tensor, share: Tensor) -> Tensor:
    """By whole pixels."""
    height, width = x.shape[-2:]
    most = (height // 8, width // 8)
    padded = F.pad(x, (most[1], most[1], most[0], most[0]))
    rows = []
    for image, (down, right) in zip(padded, share.tolist()):
        top, left = int(down * (2 * most[0] + 1)), int(right * (2 * most[1] + 1))
        rows.append(image[:, top : top + height, left : left + width])
    return torch.stack(rows)


def _with_hole(x: Tensor, share: Tensor) -> Tensor:
    """Zeros in a rectangle whose middle may lie anywhere."""
    height, width = x.shape[-2:]
    rows = torch.arange(height, device=x.device) + 0.5
    columns = torch.arange(width, device=x.device) + 0.5
    far_down = (rows - share[:, :1] * height).abs() > 0.1 * height  # (B, H)
    far_right = (columns - share[:, 1:] * width).abs() > 0.1 * width
    return x * (far_down[:, :, None] | far_right[:, None, :])[:, None].to(x)
