"""Sinusoidal features of numbers: timesteps, sizes, noise levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["sinusoid"]


def sinusoid(values: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Features (…, width) of `values` (…): cosines first, then sines, frequencies max_period^(−i / (width/2)).

    The order and the divisor width/2 (not width/2 − 1) are those of ADM and of every system since (papers D.5); so is
    the order of the operations, which decides the last digits. An odd width ends in a column of zeros.
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=values.device)
    angles = values[..., None].float() * torch.exp(-math.log(max_period) * steps / half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, width % 2))
