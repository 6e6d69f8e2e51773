"""CLIP's text tower: ViT-L/14 of OpenAI, ViT-H/14 and ViT-bigG/14 of OpenCLIP (papers D.4).

Written here rather than taken from transformers: one page serves all three, the names of its parameters stay put from
release to release, it skips the layers whose output nobody reads, and learned tokens can be added to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.models.tower import Activation, TowerLayer
from darkroom.nn.layers import Linear

__all__ = ["ClipTextConfig", "ClipTextTower", "TextFeatures"]


@dataclass(frozen=True)
class ClipTextConfig:
    width: int
    layers: int
    heads: int
    activation: Activation
    projection: int | None  # width of the pooled output; None: the tower pools without projecting
    vocabulary: int = 49408
    length: int = 77


@dataclass(frozen=True)
class TextFeatures:
    tokens: Tensor  # (B, L, width)
    pooled: Tensor | None  # (B, projection or width)


class ClipTextTower(nn.Module):
    """Token indices to features of every position and, on demand, of the whole text."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        c = config
        self.config = c
        self.token_embedding = nn.Embedding(c.vocabulary, c.width)
        self.position_embedding = nn.Embedding(c.length, c.width)
        self.layers = nn.ModuleList(TowerLayer(c.width, c.heads, c.activation, causal=True) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.projection = Linear(c.width, c.projection, bias=False) if c.projection is not None else None

    def forward(
        self, tokens: Tensor, *, skip: int = 0, norm: bool = True, pooled: bool = False, learned: Tensor | None = None
    ) -> TextFeatures:
        """`tokens` (B, L ≤ length); from `vocabulary` on they number the vectors `learned` (n, width).

        `skip` last layers are left out of the features (1: penultimate), which pass the final norm if `norm`. The
        pooled output always comes from the last layer and the final norm.
        """
        last = len(self.layers) - skip
        x = self._embed(tokens, learned)
        features = x
        for i, layer in enumerate(self.layers):
            if i == last and not pooled:
                break
            x = layer(x)
            if i == last - 1:
                features = x
        return TextFeatures(self.norm(features) if norm else features, self._pool(tokens, x) if pooled else None)

    def _embed(self, tokens: Tensor, learned: Tensor | None) -> Tensor:
        known = self.config.vocabulary
        x = self.token_embedding(tokens.clamp(max=known - 1))
        if learned is not None:
            extra = F.embedding((tokens - known).clamp(min=0), learned.to(x))
            x = torch.where((tokens >= known)[..., None], extra, x)
        return x + self.position_embedding.weight[: tokens.shape[1]]

    def _pool(self, tokens: Tensor, x: Tensor) -> Tensor:
        """The first occurrence of the highest index of the vocabulary, which is the end of the text.

        Padding may repeat that index, or be zero; learned tokens do not count.
        """
        tokens = tokens.where(tokens < self.config.vocabulary, -1)
        is_end = tokens == tokens.amax(dim=1, keepdim=True)
        end = (is_end.long().cumsum(dim=1) == 0).sum(dim=1)  # positions before the first one
        y = self.norm(x[torch.arange(len(x), device=x.device), end])
        return y if self.projection is None else self.projection(y)
