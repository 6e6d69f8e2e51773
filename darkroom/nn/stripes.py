"""Maps that memory should hold only once: they are worked on by stripes of rows."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["is_large", "stripe_rows"]

LARGE = 2**24  # values of a map: 64 MiB in float32
STRIPE = 2**23  # values that are worked on together


def is_large(x: Tensor) -> bool:
    """Whether x (B, C, H, W) is to go by stripes: on the CPU, without gradients."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    return x.device.type == "cpu" and x.numel() >= LARGE


def stripe_rows(x: Tensor) -> int:
    """Rows of a stripe. With a neighbour on either side they are a whole number of the tiles that convolutions take."""
    batch, channels, _, width = x.shape
    return max(8, STRIPE // (batch * channels * width) // 4 * 4) - 2
