"""The blocks that the networks are stacked from: residual, transformer and plain attention blocks."""

from __future__ import annotations

from typing import Literal, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.attention import Attention, Context, attention
from darkroom.nn.layers import Conv2d, Linear

__all__ = [
    "AttentionBlock",
    "FeedForward",
    "ResBlock",
    "SpatialTransformer",
    "TransformerBlock",
    "group_norm",
    "zero",
]

M = TypeVar("M", bound=nn.Module)


def zero(module: M) -> M:
    """`module` with its parameters set to zero, so that its branch starts as nothing."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


def group_norm(channels: int, eps: float = 1e-5) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=eps)


class ResBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice, beside a skip (papers A.1).

    `embedding_dim`: width of the time embedding, None for the first stage, which has none. `scale_shift`: the embedding
    scales and shifts the second norm instead of being added. `resample`: pool or repeat by two inside the block.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        embedding_dim: int | None = None,
        *,
        scale_shift: bool = False,
        resample: Literal["down", "up"] | None = None,
        dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.scale_shift = scale_shift
        self.norm1 = group_norm(n_in, eps)
        self.conv1 = Conv2d(n_in, n_out, 3, padding=1)
        self.embedding = Linear(embedding_dim, n_out * (2 if scale_shift else 1)) if embedding_dim else None
        self.norm2 = group_norm(n_out, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = Conv2d(n_out, n_out, 3, padding=1)
        if embedding_dim:
            zero(self.conv2)
        self.skip = Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:  # (B, n_in, H, W), (B, E)
        y = self.conv1(self._resampled(F.silu(self.norm1(x))))
        if self.embedding is None or embedding is None:
            y = self.norm2(y)
        elif self.scale_shift:
            scale, shift = self.embedding(F.silu(embedding))[..., None, None].chunk(2, dim=1)  # (B, n_out, 1, 1) each
            y = self.norm2(y) * (1 + scale) + shift
        else:
            y = self.norm2(y + self.embedding(F.silu(embedding))[..., None, None])
        y = self.conv2(self.dropout(F.silu(y)))
        return self.skip(self._resampled(x)) + y

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x


class FeedForward(nn.Module):
    """GEGLU: one linear layer gives value and gate (exact GELU), four times as wide as the stream."""

    def __init__(self, dim: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.proj_in = Linear(dim, dim * 8)
        self.dropout = nn.Dropout(dropout)
        self.proj_out = Linear(dim * 4, dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, dim)
        value, gate = self.proj_in(x).chunk(2, dim=-1)
        return self.proj_out(self.dropout(value * F.gelu(gate)))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward, each on a normed branch.

    `only_cross_attention`: the first attention reads the context as well (x4 upscaler).
    """

    def __init__(
        self,
        dim: int,
        context_dim: int | None,
        heads: int,
        head_dim: int,
        *,
        only_cross_attention: bool = False,
        upcast: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.only_cross_attention = only_cross_attention
        self.norm1 = nn.LayerNorm(dim)
        first = context_dim if only_cross_attention else None
        self.attn1 = Attention(dim, first, heads, head_dim, upcast=upcast, dropout=dropout)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = Attention(dim, context_dim, heads, head_dim, upcast=upcast, dropout=dropout)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim, dropout=dropout)

    def forward(self, x: Tensor, context: Context | Tensor | None) -> Tensor:  # (B, N, dim), (B, M, context_dim)
        x = x + self.attn1(self.norm1(x), context if self.only_cross_attention else None)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map, inside a residual branch.

    `linear`: projections are linear layers on the tokens (SD 2 on) instead of 1×1 convolutions. The two are one and the
    same product; only the shape of the weights differs.
    """

    def __init__(
        self,
        channels: int,
        context_dim: int | None,
        heads: int,
        depth: int,
        *,
        linear: bool,
        only_cross_attention: bool = False,
        upcast: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = group_norm(channels, eps=1e-6)
        self.proj_in = Linear(channels, channels) if linear else Conv2d(channels, channels, 1)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                channels,
                context_dim,
                heads,
                channels // heads,
                only_cross_attention=only_cross_attention,
                upcast=upcast,
                dropout=dropout,
            )
            for _ in range(depth)
        )
        self.proj_out = zero(Linear(channels, channels) if linear else Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, context: Context | Tensor | None) -> Tensor:  # (B, C, H, W), (B, M, context_dim)
        height, width = x.shape[-2:]
        y = self.norm(x)
        if not self.linear:
            y = self.proj_in(y)
        y = y.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H·W, C): a view if channels come last in memory
        if self.linear:
            y = self.proj_in(y)
        for block in self.blocks:
            y = block(y, context)
        if self.linear:
            y = self.proj_out(y)
        y = y.unflatten(1, (height, width)).permute(0, 3, 1, 2)
        if not self.linear:
            y = self.proj_out(y)
        return x + y


class AttentionBlock(nn.Module):
    """ADM's self-attention over positions, also the first stage's (one head, eps 1e-6). No context is read."""

    def __init__(self, channels: int, heads: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels, eps)
        self.to_q = Linear(channels, channels)
        self.to_k = Linear(channels, channels)
        self.to_v = Linear(channels, channels)
        self.to_out = zero(Linear(channels, channels))

    def forward(self, x: Tensor, context: Context | Tensor | None = None) -> Tensor:  # (B, C, H, W)
        height, width = x.shape[-2:]
        y = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)  # (B, H·W, C)
        y = self.to_out(attention(self.to_q(y), self.to_k(y), self.to_v(y), self.heads))
        return x + y.unflatten(1, (height, width)).permute(0, 3, 1, 2)
