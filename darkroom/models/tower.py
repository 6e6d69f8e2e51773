"""The pre-norm transformer layer of CLIP's towers (papers D.4) and of the depth estimator."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.attention import attention
from darkroom.nn.layers import Linear

__all__ = ["Activation", "TowerLayer"]

Activation = Literal["quick_gelu", "gelu"]  # OpenAI's towers; OpenCLIP's and the exact one


class TowerLayer(nn.Module):
    """LayerNorm and self-attention with biases, LayerNorm and a feed-forward four times as wide, both on a branch."""

    def __init__(self, width: int, heads: int, activation: Activation, *, causal: bool, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads, self.activation, self.causal = heads, activation, causal
        self.norm1 = nn.LayerNorm(width, eps)
        self.to_q = Linear(width, width)
        self.to_k = Linear(width, width)
        self.to_v = Linear(width, width)
        self.to_out = Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps)
        self.ff_in = Linear(width, 4 * width)
        self.ff_out = Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, width)
        y = self.norm1(x)
        y = attention(self.to_q(y), self.to_k(y), self.to_v(y), self.heads, causal=self.causal)
        x = x + self.to_out(y)
        y = self.ff_in(self.norm2(x))
        y = y * torch.sigmoid(1.702 * y) if self.activation == "quick_gelu" else F.gelu(y)
        return x + self.ff_out(y)
