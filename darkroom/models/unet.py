"""The denoiser: ADM's UNet with transformers where a condition is read (papers A.1). One class for every system."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from darkroom.nn.attention import Context
from darkroom.nn.blocks import AttentionBlock, ResBlock, SpatialTransformer, group_norm, zero
from darkroom.nn.embeddings import sinusoid
from darkroom.nn.layers import Conv2d, Linear
from darkroom.nn.normed import normed_convolution
from darkroom.nn.resample import Downsample, Upsample
from darkroom.nn.token_merging import TokenMerging

__all__ = ["DeepFeatures", "UNet", "UNetConfig"]


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
    head_width: int | None  # … or the width of each
    context_dim: int | None  # width of the tokens
    vector: Literal["none", "linear", "table"]  # how the vector slot enters: not, by two linear layers, as class index
    vector_dim: int  # its width for "linear", the number of rows for "table"
    linear_projections: bool  # in and out of the transformers: linear layers or 1×1 convolutions
    scale_shift: bool = False
    resblock_updown: bool = False  # resample inside residual blocks instead of by convolutions
    cross_only: tuple[bool, ...] = ()  # levels whose first attention reads the tokens, too
    upcast: bool = False  # attention scores in float32
    dropout: float = 0.0

    @property
    def embedding_dim(self) -> int:
        return 4 * self.model_channels

    @property
    def merging_level(self) -> int | None:
        """The finest level whose transformers attend to the picture itself: there tokens can be merged."""
        cross_only = self.cross_only or (False,) * len(self.depth)
        levels = [i for i, (depth, cross) in enumerate(zip(self.depth, cross_only)) if depth and not cross]
        return levels[0] if levels and self.attention == "transformer" else None

    def head_count(self, channels: int) -> int:
        if self.head_width is not None:
            return channels // self.head_width
        assert self.heads is not None, "a UNet needs a head count or a head width"
        return self.heads


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where the level has it, then the resampling."""

    def __init__(
        self, blocks: list[ResBlock], attentions: list[nn.Module], resample: nn.Module | None, *, merges: bool
    ) -> None:
        super().__init__()
        self.merges = merges  # tokens, where the caller wants that
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)  # empty or as many as blocks
        self.resample: nn.Module | None = resample


class DeepFeatures:
    """What the levels below the finest gave, for the next evaluations of one run (DeepCache, arXiv:2312.00858).

    Features are computed at every `every`-th evaluation; in between those of the last are taken.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._age = 0
        self._kept: Tensor | None = None

    def of(self, compute: Callable[[], Tensor], rows: int) -> Tensor:
        """The features (rows, C, h, w) for this evaluation; those of another number of rows do not serve."""
        if self._kept is None or self._age >= self.every or self._kept.shape[0] != rows:
            self._kept, self._age = compute(), 0
        self._age += 1
        return self._kept


@dataclass(frozen=True)
class _Given:
    """What blocks read besides the map."""

    embedding: Tensor  # of time and vector
    tokens: Context | Tensor | None
    merging: TokenMerging | None


class UNet(nn.Module):
    """Predicts noise, velocity or data from a noisy latent; which of them, it does not know."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False  # recompute blocks in the backward pass to save memory
        c, dim = config, config.embedding_dim
        widths = [c.model_channels * m for m in c.channel_mult]
        last = len(widths) - 1

        self.time_embedding = _mlp(c.model_channels, dim)
        self.vector_embedding: nn.Module | None = None
        if c.vector == "linear":
            self.vector_embedding = _mlp(c.vector_dim, dim)
        elif c.vector == "table":
            self.vector_embedding = nn.Embedding(c.vector_dim, dim)

        self.conv_in = Conv2d(c.in_channels, widths[0], 3, padding=1)
        down, skips, n = [], [widths[0]], widths[0]
        for i, width in enumerate(widths):
            blocks = []
            for _ in range(c.num_res_blocks):
                blocks.append(self._res_block(n, width))
                n = width
                skips.append(n)
            attentions = [self._attention(width, c.depth[i], i) for _ in blocks] if c.depth[i] else []
            resample = None
            if i < last:
                resample = self._res_block(n, n, "down") if c.resblock_updown else Downsample(n)
                skips.append(n)
            down.append(Level(blocks, attentions, resample, merges=i == c.merging_level))
        self.down = nn.ModuleList(down)

        self.mid_block1 = self._res_block(n, n)
        self.mid_attention = self._attention(n, c.mid_depth, None)
        self.mid_block2 = self._res_block(n, n)

        up: list[Level] = []
        for i, width in reversed(list(enumerate(widths))):
            blocks = []
            for _ in range(c.num_res_blocks + 1):
                blocks.append(self._res_block(n + skips.pop(), width))
                n = width
            attentions = [self._attention(width, c.depth[i], i) for _ in blocks] if c.depth[i] else []
            resample = None
            if i > 0:
                resample = self._res_block(n, n, "up") if c.resblock_updown else Upsample(n)
            up.append(Level(blocks, attentions, resample, merges=i == c.merging_level))
        self.up = nn.ModuleList(up)  # in the order of execution: the coarsest level first

        self.norm_out = group_norm(n)
        self.conv_out = zero(Conv2d(n, c.out_channels, 3, padding=1))

    def _res_block(self, n_in: int, n_out: int, resample: Literal["down", "up"] | None = None) -> ResBlock:
        c = self.config
        return ResBlock(n_in, n_out, c.embedding_dim, scale_shift=c.scale_shift, resample=resample, dropout=c.dropout)

    def _attention(self, channels: int, depth: int, level: int | None) -> nn.Module:
        c = self.config
        heads = c.head_count(channels)
        if c.attention == "block":
            return AttentionBlock(channels, heads)
        return SpatialTransformer(
            channels,
            c.context_dim,
            heads,
            depth,
            linear=c.linear_projections,
            cross_only=level is not None and bool(c.cross_only) and c.cross_only[level],
            upcast=c.upcast,
            dropout=c.dropout,
        )

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Context | Tensor | None = None,
        vector: Tensor | None = None,
        reuse: DeepFeatures | None = None,
        merging: TokenMerging | None = None,
    ) -> Tensor:
        """x (B, in, h, w), t (B,) in timesteps, tokens (B, L, context_dim), vector (B, D) or class indices (B,).

        Returns (B, out, h, w). h and w must be multiples of 2 ** (levels − 1). A `Context` in place of tokens keeps
        what layers make of them for the calls that follow. With `reuse` only the finest level is computed where the
        deep features of a former call will do; with `merging` fewer tokens attend to each other at the configuration's
        merging level.
        """
        dtype = self.conv_in.weight.dtype
        embedding = self.time_embedding(sinusoid(t, self.config.model_channels).to(dtype))  # (B, E)
        if self.vector_embedding is not None:
            assert vector is not None, "this UNet reads a vector"
            embedding = embedding + self.vector_embedding(vector if self.config.vector == "table" else vector.to(dtype))

        given = _Given(embedding, tokens, merging)

        x = self.conv_in(x.to(dtype))
        skips = [x]
        finest, *deeper = cast("Iterable[Level]", self.down)
        *coarser, last = cast("Iterable[Level]", self.up)
        x = self._down(finest, x, given, skips)

        def deep() -> Tensor:
            y = x
            if finest.resample is not None:
                y = self._resample(finest.resample, y, embedding)
                skips.append(y)
            for level in deeper:
                y = self._down(level, y, given, skips)
                if level.resample is not None:
                    y = self._resample(level.resample, y, embedding)
                    skips.append(y)
            y = self._run(self.mid_block1, y, embedding)
            y = self._run(self.mid_attention, y, tokens)
            y = self._run(self.mid_block2, y, embedding)
            for level in coarser:
                y = self._up(level, y, given, skips)
            return y

        x = deep() if reuse is None else reuse.of(deep, rows=x.shape[0])
        x = self._up(last, x, given, skips)
        return normed_convolution(self.norm_out, self.conv_out, x)

    def _down(self, level: Level, x: Tensor, given: _Given, skips: list[Tensor]) -> Tensor:
        """The blocks of a level going down; their outputs go onto `skips`. Resampling is the caller's."""
        for i, block in enumerate(level.blocks):
            x = self._attend(level, i, self._run(block, x, given.embedding), given)
            skips.append(x)
        return x

    def _up(self, level: Level, x: Tensor, given: _Given, skips: list[Tensor]) -> Tensor:
        """A level going up, which takes its skips from the end of `skips`, and the resampling to the next."""
        for i, block in enumerate(level.blocks):
            x = self._run(block, torch.cat([x, skips.pop()], dim=1), given.embedding)
            x = self._attend(level, i, x, given)
        return x if level.resample is None else self._resample(level.resample, x, given.embedding)

    def _attend(self, level: Level, i: int, x: Tensor, given: _Given) -> Tensor:
        """The attention behind block `i`, where the level has it."""
        if not level.attentions:
            return x
        if given.merging is not None and level.merges:
            return level.attentions[i](x, given.tokens, given.merging)
        return self._run(level.attentions[i], x, given.tokens)

    def _run(self, block: nn.Module, x: Tensor, condition: Context | Tensor | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, condition, use_reentrant=False)  # type: ignore[return-value]
        return block(x, condition)

    @staticmethod
    def _resample(module: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
        return module(x, embedding) if isinstance(module, ResBlock) else module(x)


def _mlp(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(Linear(n_in, n_out), nn.SiLU(), Linear(n_out, n_out))
