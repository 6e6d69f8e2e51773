"""LDM's own token transformer: pre-norm, unmasked, trained with the denoiser (papers D.2). Text and layouts alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.attention import Attention
from darkroom.nn.layers import Linear

__all__ = ["TextLayer", "TextTransformer", "TextTransformerConfig"]


@dataclass(frozen=True)
class TextTransformerConfig:
    vocabulary: int
    length: int  # positions
    width: int
    layers: int
    heads: int = 8
    head_dim: int = 64  # heads · head_dim need not be the width
    logits: bool = False  # released files carry an output layer that conditioning never uses


class TextTransformer(nn.Module):
    """Token indices (B, length) to features (B, length, width) behind the final norm. Padding is attended to."""

    def __init__(self, config: TextTransformerConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        # Both tables keep PyTorch's unit deviation. At GPT's 0.02 the layers, whose ends are not as small (0.2), drown
        # them: all tokens begin alike.
        self.token_embedding = nn.Embedding(c.vocabulary, c.width)
        self.position_embedding = nn.Embedding(c.length, c.width)
        self.layers = nn.ModuleList(TextLayer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.to_logits = Linear(c.width, c.vocabulary) if c.logits else None

    def forward(self, tokens: Tensor, learned: Tensor | None = None) -> Tensor:
        """`tokens` from the vocabulary on number the vectors `learned` (n, width)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self._embed(tokens, learned) + self.position_embedding(positions)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def _embed(self, tokens: Tensor, learned: Tensor | None) -> Tensor:
        """(B, length) to (B, length, width)."""
        if learned is None:
            return self.token_embedding(tokens)
        table = self.token_embedding.weight
        return F.embedding(tokens, torch.cat([table, learned.to(table)]))


class TextLayer(nn.Module):
    """LayerNorm and self-attention, LayerNorm and a feed-forward four times as wide, both on a branch."""

    def __init__(self, c: TextTransformerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(c.width)
        self.attention = Attention(c.width, None, c.heads, c.head_dim)
        self.norm2 = nn.LayerNorm(c.width)
        self.ff = nn.Sequential(Linear(c.width, 4 * c.width), nn.GELU(), Linear(4 * c.width, c.width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.ff(self.norm2(x))
