"""IP-Adapter: a picture as a prompt, by keys and values of its own (Ye et al. 2023, arXiv:2308.06721)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.models.control import Control, ImageKeys
from darkroom.nn.attention import attention
from darkroom.nn.layers import Linear

__all__ = ["IPAdapter", "IPAdapterConfig", "ResamplerConfig"]


@dataclass(frozen=True)
class ResamplerConfig:
    """The "plus" models read all positions of the image tower's last layer but one, instead of its embedding."""

    width: int  # of the stream: SD1 768, SDXL 1280
    depth: int = 4
    heads: int = 12  # SDXL 20
    head_dim: int = 64


@dataclass(frozen=True)
class IPAdapterConfig:
    image_dim: int  # of the image embedding; plus: of the image tower's positions
    context_dim: int  # of the UNet's tokens
    image_tokens: int  # plain 4, plus 16
    layers: tuple[int, ...]  # heads · d of each cross-attention of the UNet, from its start to its end
    resampler: ResamplerConfig | None = None  # plus


class IPAdapter(nn.Module):
    def __init__(self, config: IPAdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = ImageProjection(config) if config.resampler is None else Resampler(config, config.resampler)
        self.to_k = nn.ModuleList(Linear(config.context_dim, width, bias=False) for width in config.layers)
        self.to_v = nn.ModuleList(Linear(config.context_dim, width, bias=False) for width in config.layers)

    def forward(self, features: Tensor) -> Control:
        """For all steps of a run, from what the image tower gives: (B, image_dim), plus (B, L, image_dim).

        For the unconditional branch plain models take zeros, plus models what the tower gives
        for zeros, the mean color.
        """
        tokens = self.projection(features)  # (B, image_tokens, context_dim)
        return Control(images=(ImageKeys(tuple((k(tokens), v(tokens)) for k, v in zip(self.to_k, self.to_v))),))


class ImageProjection(nn.Module):
    """One linear layer from the embedding to all tokens."""

    def __init__(self, config: IPAdapterConfig) -> None:
        super().__init__()
        self.tokens = config.image_tokens
        self.proj = Linear(config.image_dim, config.image_tokens * config.context_dim)
        self.norm = nn.LayerNorm(config.context_dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, image_dim) -> (B, image_tokens, context_dim)
        return self.norm(self.proj(x).unflatten(1, (self.tokens, -1)))


class Resampler(nn.Module):
    """Learned queries that attend to the positions of a picture and to each other (Perceiver, arXiv:2103.03206)."""

    def __init__(self, config: IPAdapterConfig, c: ResamplerConfig) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, config.image_tokens, c.width) / c.width**0.5)
        self.proj_in = Linear(config.image_dim, c.width)
        self.layers = nn.ModuleList(ResamplerLayer(c) for _ in range(c.depth))
        self.proj_out = Linear(c.width, config.context_dim)
        self.norm_out = nn.LayerNorm(config.context_dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, L, image_dim) -> (B, image_tokens, context_dim)
        y, x = self.latents.expand(len(x), -1, -1), self.proj_in(x)
        for layer in self.layers:
            y = layer(y, x)
        return self.norm_out(self.proj_out(y))


class ResamplerLayer(nn.Module):
    def __init__(self, c: ResamplerConfig) -> None:
        super().__init__()
        inner = c.heads * c.head_dim
        self.heads = c.heads
        self.norm_x = nn.LayerNorm(c.width)
        self.norm_y = nn.LayerNorm(c.width)
        self.to_q = Linear(c.width, inner, bias=False)
        self.to_k = Linear(c.width, inner, bias=False)
        self.to_v = Linear(c.width, inner, bias=False)
        self.to_out = Linear(inner, c.width, bias=False)
        self.norm_ff = nn.LayerNorm(c.width)
        self.ff_in = Linear(c.width, 4 * c.width, bias=False)
        self.ff_out = Linear(4 * c.width, c.width, bias=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:  # queries (B, M, width), positions (B, L, width)
        query = self.norm_y(y)
        read = torch.cat([self.norm_x(x), query], dim=1)
        y = y + self.to_out(attention(self.to_q(query), self.to_k(read), self.to_v(read), self.heads))
        return y + self.ff_out(F.gelu(self.ff_in(self.norm_ff(y))))
