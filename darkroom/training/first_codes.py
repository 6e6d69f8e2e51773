"""A codebook begins where latents are: from far away all find the same few codes, and the others never learn."""

from __future__ import annotations

import torch
from torch import Tensor

from darkroom.models.autoencoder import Autoencoder

__all__ = ["begin_codes", "pictures_for_codes"]

PICTURES = 8  # at least, however few codes there are
AT_ONCE = 4  # pictures


def pictures_for_codes(autoencoder: Autoencoder, pixels: int) -> int:
    """How many pictures of `pixels` pixels hold a latent for each code, and are unlike enough."""
    quantizer = autoencoder.quantizer
    assert quantizer is not None, "only of first stages with a codebook"
    positions = pixels // autoencoder.config.factor**2
    return max(PICTURES, -(-quantizer.config.codes // positions))


@torch.no_grad()
def begin_codes(autoencoder: Autoencoder, images: Tensor) -> None:
    """Bring the latents of `images` (B, 3, H, W), in [−1, 1], to mean 0 and variance 1, channel by channel, and make
    the codebook of a fresh first stage of some of them, in an order that is always the same.

    As residual quantizers of sound begin (Zeghidour et al. 2021, arXiv:2107.03312, section III-C: by k-means of the
    first batch). Where there are fewer latents than codes, some codes are equal and part as they learn.
    """
    quantizer, into = autoencoder.quantizer, autoencoder.quant_conv
    assert quantizer is not None, "only of first stages with a codebook"
    assert into.bias is not None
    latents = torch.cat([autoencoder.moments(some).float() for some in images.split(AT_ONCE)])
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)).clamp(min=1e-6)
    into.weight /= spread.view(-1, 1, 1, 1)
    into.bias.copy_((into.bias - mean) / spread)
    vectors = ((latents - mean.view(1, -1, 1, 1)) / spread.view(1, -1, 1, 1)).permute(0, 2, 3, 1).flatten(0, 2)
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    quantizer.embedding.weight.copy_(vectors[order[torch.arange(quantizer.config.codes) % len(order)]])
