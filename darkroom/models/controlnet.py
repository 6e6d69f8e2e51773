"""ControlNet: a copy of the UNet's encoder that reads a hint picture (Zhang et al. 2023, arXiv:2302.05543)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from darkroom.models.control import Control
from darkroom.models.unet import UNetConfig, UNetEncoder, skip_channels
from darkroom.nn.attention import Context
from darkroom.nn.blocks import zero
from darkroom.nn.layers import Conv2d

__all__ = ["ControlNet", "ControlNetConfig", "guess_weights"]


@dataclass(frozen=True)
class ControlNetConfig:
    """Of SD1, SD2 and SDXL alike; the denoiser's numbers say which."""

    unet: UNetConfig  # of the denoiser that was copied; its `in_channels` are the latent's alone
    hint_channels: int = 3
    hint_widths: tuple[int, ...] = (16, 32, 96, 256)  # each at half the size of the one before: 8 pixels a position
    global_pool: bool = False  # the mean of each residual over all positions (content, as "shuffle" has it)


class ControlNet(UNetEncoder):
    def __init__(self, config: ControlNetConfig) -> None:
        super().__init__(config.unet)
        self.global_pool = config.global_pool
        self.hint_factor = 2 ** (len(config.hint_widths) - 1)  # pixels a side to a position of the latent
        channels = skip_channels(config.unet)
        self.hint = _hint(config, channels[0])
        self.zero_skips = nn.ModuleList(zero(Conv2d(n, n, 1)) for n in channels)
        self.zero_middle = zero(Conv2d(channels[-1], channels[-1], 1))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        hint: Tensor,
        tokens: Context | Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Control:
        """What is given to the UNet for the same x (B, 4, h, w), t, tokens and vector.

        hint (B or 1, C, h, w): what `self.hint` makes of a picture (B, 3, 8·h, 8·w) with values from 0 to 1, once for
        all steps of a run.
        """
        embedding = self.embed(t, vector)
        x = self.conv_in(x.to(embedding.dtype)) + hint
        skips = self.encode(x, embedding, tokens)
        middle = self.zero_middle(self.middle(skips[-1], embedding, tokens))
        residuals = [conv(skip) for conv, skip in zip(self.zero_skips, skips)]
        if self.global_pool:
            middle, *residuals = (r.mean(dim=(2, 3), keepdim=True) for r in (middle, *residuals))
        return Control(skips=tuple(residuals), middle=middle)


def guess_weights(skips: int) -> Tensor:
    """Guess mode's weights of the residuals of skips and, last, of the middle: from 0.1 for the finest map to 1."""
    return torch.logspace(-1, 0, skips + 1)


def _hint(config: ControlNetConfig, n_out: int) -> nn.Sequential:
    first, *wider = config.hint_widths
    layers: list[nn.Module] = [Conv2d(config.hint_channels, first, 3, padding=1), nn.SiLU()]
    for n, following in zip(config.hint_widths, wider):
        layers += [Conv2d(n, n, 3, padding=1), nn.SiLU(), Conv2d(n, following, 3, padding=1, stride=2), nn.SiLU()]
    return nn.Sequential(*layers, zero(Conv2d(config.hint_widths[-1], n_out, 3, padding=1)))
