"""The denoiser: ADM's UNet with transformers where a condition is read (papers A.1). One class for every system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.errors import require
from darkroom.models.levels import require_levels
from darkroom.nn.attention import Context
from darkroom.nn.blocks import AttentionBlock, ResBlock, SpatialTransformer, group_norm, zero
from darkroom.nn.embeddings import sinusoid
from darkroom.nn.layers import Conv2d, Linear
from darkroom.nn.resample import Downsample, Upsample

__all__ = ["DownLevel", "NoAttention", "UNet", "UNetConfig", "UNetEncoder", "UpLevel", "skip_channels"]


@dataclass(frozen=True)
class UNetConfig:
    """Every number of the architecture. Tuples have one entry per level, the finest first."""

    in_channels: int  # of the latent and of everything concatenated to it
    out_channels: int
    model_channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int  # per level going down; one more going up
    attention: Literal["transformer", "block"]  # "block": ADM's self-attention, reads no tokens
    depth: tuple[int, ...]  # transformer blocks behind each residual block (for "block": 0 or 1)
    mid_depth: int
    heads: int | None  # either the number of heads …
    head_dim: int | None  # … or the width of each
    context_dim: int | None  # width of the tokens
    vector: Literal["none", "linear", "table"]  # how the vector slot enters: not, by two linear layers, as class index
    vector_dim: int  # its width for "linear", the number of rows for "table"
    linear_projections: bool  # in and out of the transformers: linear layers or 1×1 convolutions
    scale_shift: bool = False
    resblock_updown: bool = False  # resample inside residual blocks instead of by convolutions
    only_cross_attention: tuple[bool, ...] = ()  # levels whose first attention reads the tokens, too
    upcast: bool = False  # attention scores in float32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_levels(self.channel_mult, depth=self.depth)
        if self.only_cross_attention:
            require_levels(self.channel_mult, only_cross_attention=self.only_cross_attention)
        require(bool(self.heads or self.head_dim), "heads", self.heads, "1 or more where head_dim is not given")

    @property
    def embedding_dim(self) -> int:
        return 4 * self.model_channels

    @property
    def merging_level(self) -> int | None:
        """The finest level whose transformers attend to the picture itself: there tokens can be merged."""
        only_cross_attention = self.only_cross_attention or (False,) * len(self.depth)
        levels = [i for i, (depth, cross) in enumerate(zip(self.depth, only_cross_attention)) if depth and not cross]
        return levels[0] if levels and self.attention == "transformer" else None

    def head_count(self, channels: int) -> int:
        if self.head_dim is not None:
            return channels // self.head_dim
        assert self.heads is not None
        return self.heads


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where the level has it, then the resampling."""

    def __init__(self, blocks: list[ResBlock], attentions: list[nn.Module], resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)  # as many as blocks
        self.resample = resample


class DownLevel(Level):
    def forward(self, x: Tensor, embedding: Tensor, tokens: Context | Tensor | None) -> list[Tensor]:
        """What each block and the resampling give: the skips, the last one the way on."""
        skips = self.at_this_resolution(x, embedding, tokens)
        if self.resample is not None:
            skips.append(self.resample(skips[-1], embedding))
        return skips

    def at_this_resolution(self, x: Tensor, embedding: Tensor, tokens: Context | Tensor | None) -> list[Tensor]:
        skips = []
        for block, attention in zip(self.blocks, self.attentions):
            x = attention(block(x, embedding), tokens)
            skips.append(x)
        return skips


class UpLevel(Level):
    def forward(self, x: Tensor, skips: list[Tensor], embedding: Tensor, tokens: Context | Tensor | None) -> Tensor:
        """Takes its skips from the end of `skips`."""
        for block, attention in zip(self.blocks, self.attentions):
            x = attention(block(torch.cat([x, skips.pop()], dim=1), embedding), tokens)
        return x if self.resample is None else self.resample(x, embedding)


class NoAttention(nn.Module):
    """Where a level has none."""

    def forward(self, x: Tensor, tokens: Context | Tensor | None) -> Tensor:
        return x


class UNetEncoder(nn.Module):
    """The way down and the middle: half of a UNet, and what a ControlNet copies of it."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        c, dim = config, config.embedding_dim
        widths = [c.model_channels * m for m in c.channel_mult]

        self.time_embedding = _mlp(c.model_channels, dim)
        self.vector_embedding: nn.Module | None = None
        if c.vector == "linear":
            self.vector_embedding = _mlp(c.vector_dim, dim)
        elif c.vector == "table":
            self.vector_embedding = nn.Embedding(c.vector_dim, dim)

        self.conv_in = Conv2d(c.in_channels, widths[0], 3, padding=1)
        down: list[DownLevel] = []
        n = widths[0]
        for i, width in enumerate(widths):
            blocks = [_res_block(c, n if j == 0 else width, width) for j in range(c.num_res_blocks)]
            n = width
            attentions = [_attention(c, width, c.depth[i], i) for _ in blocks]
            resample = None
            if i < len(widths) - 1:
                resample = _res_block(c, n, n, "down") if c.resblock_updown else Downsample(n)
            down.append(DownLevel(blocks, attentions, resample))
        self.down = nn.ModuleList(down)

        self.mid_block1 = _res_block(c, n, n)
        self.mid_attention = _attention(c, n, c.mid_depth, None)
        self.mid_block2 = _res_block(c, n, n)

    def embed(self, t: Tensor, vector: Tensor | None) -> Tensor:
        """Of timesteps and, where the network reads it, the vector: (B, E)."""
        dtype = self.conv_in.weight.dtype
        embedding = self.time_embedding(sinusoid(t, self.config.model_channels).to(dtype))
        if self.vector_embedding is not None:
            assert vector is not None, "this UNet reads a vector"
            embedding = embedding + self.vector_embedding(vector if self.config.vector == "table" else vector.to(dtype))
        return embedding

    def encode(self, x: Tensor, embedding: Tensor, tokens: Context | Tensor | None) -> list[Tensor]:
        """The skips, from the finest to the coarsest map; x, what `conv_in` gave, is the first."""
        skips = [x]
        for level in self.down:
            skips += level(skips[-1], embedding, tokens)
        return skips

    def middle(self, x: Tensor, embedding: Tensor, tokens: Context | Tensor | None) -> Tensor:
        x = self.mid_block1(x, embedding)
        x = self.mid_attention(x, tokens)
        return self.mid_block2(x, embedding)


class UNet(UNetEncoder):
    """Predicts noise, velocity or data from a noisy latent; which of them, it does not know."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        c, skips = config, skip_channels(config)
        n, up = skips[-1], []
        for i, mult in reversed(list(enumerate(c.channel_mult))):
            width, blocks = c.model_channels * mult, []
            for _ in range(c.num_res_blocks + 1):
                blocks.append(_res_block(c, n + skips.pop(), width))
                n = width
            attentions = [_attention(c, width, c.depth[i], i) for _ in blocks]
            resample = None
            if i > 0:
                resample = _res_block(c, n, n, "up") if c.resblock_updown else Upsample(n)
            up.append(UpLevel(blocks, attentions, resample))
        self.up = nn.ModuleList(up)  # in the order of execution: the coarsest level first

        self.norm_out = group_norm(n)
        self.conv_out = zero(Conv2d(n, c.out_channels, 3, padding=1))

    def forward(
        self, x: Tensor, t: Tensor, tokens: Context | Tensor | None = None, vector: Tensor | None = None
    ) -> Tensor:
        """x (B, in, h, w), t (B,) in timesteps, tokens (B, L, context_dim), vector (B, D) or class indices (B,).

        Returns (B, out, h, w). h and w must be multiples of 2 ** (levels − 1). A `Context` in place of tokens keeps
        what layers make of them for the calls that follow.
        """
        embedding = self.embed(t, vector)
        x = self.conv_in(x.to(embedding.dtype))
        skips = self.encode(x, embedding, tokens)
        x = self.middle(skips[-1], embedding, tokens)
        x = self.decode(x, skips, embedding, tokens)
        return self.out(x)

    def decode(self, x: Tensor, skips: list[Tensor], embedding: Tensor, tokens: Context | Tensor | None) -> Tensor:
        """Takes the skips away, the last one first."""
        for level in self.up:
            x = level(x, skips, embedding, tokens)
        return x

    def out(self, x: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.norm_out(x)))

    @property
    def merging_transformers(self) -> list[SpatialTransformer]:
        """The transformers of the configuration's merging level."""
        level = self.config.merging_level
        levels = [] if level is None else [self.down[level], self.up[-1 - level]]
        return [m for found in levels for m in found.modules() if isinstance(m, SpatialTransformer)]


def skip_channels(config: UNetConfig) -> list[int]:
    """Of each skip, from the finest to the coarsest map."""
    channels = [config.model_channels * config.channel_mult[0]]
    for i, mult in enumerate(config.channel_mult):
        resampled = i < len(config.channel_mult) - 1
        channels += [config.model_channels * mult] * (config.num_res_blocks + resampled)
    return channels


def _res_block(c: UNetConfig, n_in: int, n_out: int, resample: Literal["down", "up"] | None = None) -> ResBlock:
    return ResBlock(n_in, n_out, c.embedding_dim, scale_shift=c.scale_shift, resample=resample, dropout=c.dropout)


def _attention(c: UNetConfig, channels: int, depth: int, level: int | None) -> nn.Module:
    if not depth:
        return NoAttention()
    heads = c.head_count(channels)
    if c.attention == "block":
        return AttentionBlock(channels, heads)
    return SpatialTransformer(
        channels,
        c.context_dim,
        heads,
        depth,
        linear=c.linear_projections,
        only_cross_attention=level is not None and bool(c.only_cross_attention) and c.only_cross_attention[level],
        upcast=c.upcast,
        dropout=c.dropout,
    )


def _mlp(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(Linear(n_in, n_out), nn.SiLU(), Linear(n_out, n_out))
