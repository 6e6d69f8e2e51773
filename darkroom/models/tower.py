"""What vision and text towers share: the pre-norm layer of CLIP's (papers D.4), DINO's and the depth estimator's, and
positions stretched to other sizes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.attention import attention
from darkroom.nn.layers import Linear

__all__ = ["Activation", "TowerLayer", "stretched_positions"]

Activation = Literal["quick_gelu", "gelu"]  # OpenAI's towers; OpenCLIP's and the exact one


class TowerLayer(nn.Module):
    """LayerNorm and self-attention with biases, LayerNorm and a feed-forward, `inner` or four times `width` wide.

    `scaled`: each branch is multiplied by a learned number for each channel (layer scale, arXiv:2103.17239).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        activation: Activation,
        *,
        causal: bool,
        eps: float = 1e-5,
        scaled: bool = False,
        inner: int | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.activation, self.causal = heads, activation, causal
        self.norm1 = nn.LayerNorm(width, eps)
        self.to_q = Linear(width, width)
        self.to_k = Linear(width, width)
        self.to_v = Linear(width, width)
        self.to_out = Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps)
        self.ff_in = Linear(width, inner or 4 * width)
        self.ff_out = Linear(inner or 4 * width, width)
        self.scale1 = nn.Parameter(torch.ones(width)) if scaled else None
        self.scale2 = nn.Parameter(torch.ones(width)) if scaled else None

    def forward(self, x: Tensor) -> Tensor:  # (B, N, width)
        y = self.norm1(x)
        y = attention(self.to_q(y), self.to_k(y), self.to_v(y), self.heads, causal=self.causal)
        x = x + _scaled(self.to_out(y), self.scale1)
        y = self.ff_in(self.norm2(x))
        y = y * torch.sigmoid(1.702 * y) if self.activation == "quick_gelu" else F.gelu(y)
        return x + _scaled(self.ff_out(y), self.scale2)


def _scaled(y: Tensor, scale: Tensor | None) -> Tensor:
    return y if scale is None else y * scale


def stretched_positions(
    table: Tensor, size: tuple[int, int], *, mode: str, offset: float = 0.0, antialias: bool = False
) -> Tensor:
    """Positions (1, 1 + height · width, C) of a grid of `size` from those (1, 1 + side², C) of the square that was
    trained; the first one, of the class token, stays.

    `offset` is added to the sides before the factors are formed, as DINO's release does, which shifts all places a
    little.
    """
    side = round((table.shape[1] - 1) ** 0.5)
    grid = table[:, 1:].transpose(1, 2).unflatten(2, (side, side)).float()
    if offset:
        factors = tuple((n + offset) / side for n in size)
        grid = F.interpolate(grid, scale_factor=factors, mode=mode, antialias=antialias)
    else:
        grid = F.interpolate(grid, size=size, mode=mode, antialias=antialias)
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2).to(table)], dim=1)
