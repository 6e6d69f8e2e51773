"""The first stage: images to latents and back, at any factor (papers part B)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.models.bottleneck import KLConfig, Posterior, VectorQuantizer, VQConfig
from darkroom.models.levels import require_levels
from darkroom.nn.blocks import AttentionBlock, ResBlock, group_norm, zero
from darkroom.nn.layers import Conv2d
from darkroom.nn.resample import Downsample, Upsample

__all__ = ["Autoencoder", "AutoencoderConfig"]

EPS = 1e-6  # of every group norm in the first stage


@dataclass(frozen=True)
class AutoencoderConfig:
    """Every number of the architecture. Tuples have one entry per level, the finest first."""

    channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int  # per level of the encoder
    decoder_res_blocks: int  # per level of the decoder; the papers' stages have one more than the encoder
    attention: tuple[bool, ...]  # levels with attention behind every residual block
    mid_attention: bool
    z_channels: int  # what the encoder gives (KL: twice, for mean and log-variance)
    latent_channels: int  # what the diffusion model sees
    bottleneck: KLConfig | VQConfig
    patch_size: int = 1  # pixels folded into channels at both ends: cheap, for small stages
    refine_channels: int = 0  # features of every pixel from which the decoder corrects the picture; 0: no correction
    image_channels: int = 3

    def __post_init__(self) -> None:
        require_levels(self.channel_mult, attention=self.attention)

    @property
    def factor(self) -> int:
        """f: image side over latent side."""
        return self.patch_size * 2 ** (len(self.channel_mult) - 1)


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where the level has it, then the resampling."""

    def __init__(self, blocks: list[ResBlock], attentions: list[AttentionBlock], resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resample = resample

    def layers(self) -> Iterator[nn.Module]:
        """In the order of execution. Whoever calls them one by one need not keep what the level began with."""
        for i, block in enumerate(self.blocks):
            yield block
            if self.attentions:
                yield self.attentions[i]
        if self.resample is not None:
            yield self.resample


class Mid(nn.Module):
    def __init__(self, channels: int, *, attention: bool) -> None:
        super().__init__()
        self.block1 = ResBlock(channels, channels, eps=EPS)
        self.attention = AttentionBlock(channels, 1, eps=EPS) if attention else None
        self.block2 = ResBlock(channels, channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(x)
        if self.attention is not None:
            x = self.attention(x)
        return self.block2(x)


class Refine(nn.Module):
    """A correction of the picture by two convolutions at full resolution, which patches alone show as a grid.

    (B, 3 + n, H, W), the picture and n features of every pixel, to (B, 3, H, W). Fresh, it corrects nothing.
    """

    def __init__(self, n: int, image_channels: int) -> None:
        super().__init__()
        self.image_channels = image_channels
        self.conv1 = Conv2d(image_channels + n, n, 3, padding=1)
        self.conv_out = zero(Conv2d(n, image_channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.image_channels] + self.conv_out(F.silu(self.conv1(x)))


class Encoder(nn.Module):
    """(B, 3, H, W) to (B, z or 2·z, H/f, W/f)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c, n = config, config.channels
        self.patch_size = c.patch_size
        self.conv_in = Conv2d(c.image_channels * c.patch_size**2, n, 3, padding=1)
        levels = []
        for i, mult in enumerate(c.channel_mult):
            n, blocks, attentions = _stack(n, c.channels * mult, c.num_res_blocks, c.attention[i])
            resample = Downsample(n, asymmetric=True) if i < len(c.channel_mult) - 1 else None
            levels.append(Level(blocks, attentions, resample))
        self.levels = nn.ModuleList(levels)
        self.mid = Mid(n, attention=c.mid_attention)
        self.norm_out = group_norm(n, EPS)
        self.conv_out = Conv2d(n, c.z_channels * (2 if isinstance(c.bottleneck, KLConfig) else 1), 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self._enter(x)
        for layer in (layer for level in cast("Iterable[Level]", self.levels) for layer in level.layers()):
            x = layer(x)
        return self.out(self.mid(x))

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps of images (B, 3, H, W), one a level, before each is made coarser; the finest first."""
        x, maps = self._enter(images), []
        for level in cast("Iterable[Level]", self.levels):
            for layer in level.layers():
                if layer is level.resample:
                    maps.append(x)
                x = layer(x)
        return [*maps, x]

    def _enter(self, images: Tensor) -> Tensor:
        return self.conv_in(F.pixel_unshuffle(images, self.patch_size) if self.patch_size > 1 else images)

    def out(self, x: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    """(B, z, h, w) to (B, 3, h·f, w·f). No tanh at the end."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        c = config
        self.patch_size = c.patch_size
        n = c.channels * c.channel_mult[-1]
        self.conv_in = Conv2d(c.z_channels, n, 3, padding=1)
        self.mid = Mid(n, attention=c.mid_attention)
        levels = []
        for i, mult in reversed(list(enumerate(c.channel_mult))):
            n, blocks, attentions = _stack(n, c.channels * mult, c.decoder_res_blocks, c.attention[i])
            levels.append(Level(blocks, attentions, Upsample(n) if i > 0 else None))
        self.levels = nn.ModuleList(levels)  # in the order of execution: the coarsest level first
        self.norm_out = group_norm(n, EPS)
        self.conv_out = Conv2d(n, (c.image_channels + c.refine_channels) * c.patch_size**2, 3, padding=1)
        self.refine = Refine(c.refine_channels, c.image_channels) if c.refine_channels else None

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        for layer in (layer for level in cast("Iterable[Level]", self.levels) for layer in level.layers()):
            x = layer(x)
        x = self.out(x)
        x = F.pixel_shuffle(x, self.patch_size) if self.patch_size > 1 else x
        return x if self.refine is None else self.refine(x)

    def out(self, x: Tensor) -> Tensor:
        return self.conv_out(F.silu(self.norm_out(x)))


class Autoencoder(nn.Module):
    """Encoder, bottleneck and decoder. Latents here are not yet multiplied by the latent scale."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        c, double = config, 2 if isinstance(config.bottleneck, KLConfig) else 1
        self.encoder = Encoder(c)
        self.quant_conv = Conv2d(c.z_channels * double, c.latent_channels * double, 1)
        self.post_quant_conv = Conv2d(c.latent_channels, c.z_channels, 1)
        self.decoder = Decoder(c)
        self.quantizer = (
            None if isinstance(c.bottleneck, KLConfig) else VectorQuantizer(c.bottleneck, c.latent_channels)
        )

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight whose gradients balance the adversarial term (papers B.2)."""
        return self.decoder.conv_out.weight  # type: ignore[return-value]

    def moments(self, images: Tensor) -> Tensor:
        """KL: mean and log-variance (B, 2C, h, w). VQ: the latent before quantization (B, C, h, w)."""
        return self.quant_conv(self.encoder(images.to(self.quant_conv.weight.dtype)))

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (B, 3, H, W) in [−1, 1] to latents (B, C, H/f, W/f).

        KL: the posterior's mean, or its sample with the given unit `noise`. VQ: before quantization (papers B.3).
        """
        moments = self.moments(images)
        if self.quantizer is not None:
            return moments
        posterior = Posterior.from_moments(moments)
        return posterior.mean if noise is None else posterior.sample(noise)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images; VQ quantizes first, which makes the codebook the first layer of the decoder."""
        if self.quantizer is not None:
            latents = self.quantizer.lookup(self.quantizer.nearest(latents))
        return self.decode_unquantized(latents)

    def decode_unquantized(self, z: Tensor) -> Tensor:
        """The decoder alone, for training, where the quantizer has already run."""
        return self.decoder(self.post_quant_conv(z.to(self.post_quant_conv.weight.dtype)))

    @torch.no_grad()
    def standardize_latents(self, mean: Tensor, spread: Tensor) -> None:
        """Take `mean` from the latents and divide them by `spread` (both (C,)); what is decoded stays as it was.

        KL only. With the statistics of many pictures every channel has mean 0 and variance 1 afterwards.
        """
        assert self.quantizer is None, "a codebook's latents are its own"
        into, out = self.quant_conv, self.post_quant_conv
        assert into.bias is not None
        assert out.bias is not None
        c = self.config.latent_channels
        into.weight[:c] /= spread.view(-1, 1, 1, 1)
        into.bias.copy_(torch.cat([(into.bias[:c] - mean) / spread, into.bias[c:] - 2 * spread.log()]))
        out.bias += out.weight[:, :, 0, 0] @ mean
        out.weight *= spread.view(1, -1, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.decode(self.encode(images))


def _stack(n: int, width: int, count: int, attention: bool) -> tuple[int, list[ResBlock], list[AttentionBlock]]:
    blocks = [ResBlock(n if i == 0 else width, width, eps=EPS) for i in range(count)]
    attentions = [AttentionBlock(width, 1, eps=EPS) for _ in blocks] if attention else []
    return width, blocks, attentions
