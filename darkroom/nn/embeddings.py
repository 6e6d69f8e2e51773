"""Sinusoidal features of numbers: timesteps, sizes, noise levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["sinusoid"]


def sinusoid(values: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """Features (…, width) of `values` (…): cosines first, then sines, frequencies max_period^(−i / (width/2)).

    The order and the divisor width/2 (not width/2 − 1) are those of ADM and of every system since (papers D.5).
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=values.device)
    angles = values[..., None].float() * torch.exp(-math.log(max_period) / half * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
