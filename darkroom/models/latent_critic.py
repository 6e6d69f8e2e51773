"""A critic of noised latents: the way down of a denoiser, which ends in logits (arXiv:2402.13929, 2501.08316)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from darkroom.models.unet import UNet, UNetConfig, UNetEncoder, skip_channels
from darkroom.nn.attention import Context
from darkroom.nn.blocks import group_norm
from darkroom.nn.layers import Conv2d

__all__ = ["LatentCritic"]


class LatentCritic(UNetEncoder):
    """It sees latents as the denoiser does, at some noise level and under a prompt, and judges twice: the finest map
    tells of looks, the middle of the whole."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths = skip_channels(config)
        self.fine, self.whole = _head(widths[0]), _head(widths[-1])

    @classmethod
    def beginning_as(cls, unet: UNet) -> LatentCritic:
        """With the weights of `unet` below fresh heads, all in float32 and to be learned."""
        found = cls(unet.config)
        taken = {k: v for k, v in unet.state_dict().items() if not k.startswith(("up.", "norm_out.", "conv_out."))}
        fresh = {k: v for k, v in found.state_dict().items() if k.startswith(("fine.", "whole."))}
        found.load_state_dict({**taken, **fresh})
        return found.float().requires_grad_(True)

    def forward(
        self, x: Tensor, t: Tensor, tokens: Context | Tensor | None = None, vector: Tensor | None = None
    ) -> Tensor:
        """Logits (B, 2) in float32, each the mean over its map; arguments as of `UNet`."""
        embedding = self.embed(t, vector)
        skips = self.encode(self.conv_in(x.to(embedding.dtype)), embedding, tokens)
        middle = self.middle(skips[-1], embedding, tokens)
        maps = self.fine(skips[self.config.num_res_blocks]), self.whole(middle)
        return torch.stack([m.float().mean(dim=(1, 2, 3)) for m in maps], dim=1)


def _head(width: int) -> nn.Sequential:
    half = width // 2
    return nn.Sequential(group_norm(width), nn.SiLU(), Conv2d(width, half, 3, padding=1), nn.SiLU(), Conv2d(half, 1, 1))
