"""What a picture will look like, while it is drawn: the clean estimate of a step in small."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from darkroom.checkpoints.taesd import load_tiny_decoder
from darkroom.errors import InputError
from darkroom.models.tiny_autoencoder import TinyDecoder
from darkroom.pixels import to_bytes
from darkroom.systems.build import LatentDiffusion

__all__ = ["Preview", "latent_to_rgb"]

SIDE = 512  # pixels, at most
SAMPLES, POSITIONS = 8, 16  # pictures that the map is fitted to, and their sides in latent positions


class Preview:
    """Estimates to small pictures: by a linear map fitted to the model's own first stage, or by a tiny decoder."""

    def __init__(self, model: LatentDiffusion, taesd: Path | None = None) -> None:
        self.decoder = None if taesd is None else _decoder(taesd, model)
        self.matrix, self.bias = (None, None) if taesd is not None else latent_to_rgb(model)

    @torch.inference_mode()
    def pixels(self, x0: Tensor) -> np.ndarray:
        """Clean estimates (B, C, h, w) to uint8 (B, h', w', 3): of the latent's size, with TAESD of the picture's."""
        if self.decoder is not None:
            return to_bytes(self.decoder(x0.float()))
        assert self.matrix is not None and self.bias is not None, "one of the two"  # noqa: PT018
        colours = torch.einsum("oc,bchw->bohw", self.matrix.to(x0.device), x0.float())
        return to_bytes(colours + self.bias.to(x0.device)[:, None, None])

    def jpeg(self, x0: Tensor) -> bytes:
        """The first of the estimates as a JPEG of at most 512 pixels a side, enlarged to it where it is smaller."""
        image = Image.fromarray(self.pixels(x0[:1])[0])
        scale = SIDE / max(image.size)
        sides = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        buffer = io.BytesIO()
        image.resize(sides, Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=80)
        return buffer.getvalue()


def _decoder(path: Path, model: LatentDiffusion) -> TinyDecoder:
    decoder, own = load_tiny_decoder(path, model.device), model.autoencoder.config
    if (decoder.latent_channels, decoder.factor) != (own.latent_channels, own.factor):
        raise InputError(
            f"{path} decodes latents of {decoder.latent_channels} channels at 1/{decoder.factor} of the size, "
            f"{model.system.name} has {own.latent_channels} at 1/{own.factor}"
        )
    return decoder


def latent_to_rgb(model: LatentDiffusion) -> tuple[Tensor, Tensor]:
    """(matrix (3, C), bias (3,)): least squares from latents to the mean colours of the pixels under them.

    Fitted to soft random colour fields that the model's encoder turns into latents; always the same for one model.
    """
    factor = model.autoencoder.config.factor
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(SAMPLES, 3, 5, 5, generator=generator) * 2.4 - 1.2
    side = POSITIONS * factor
    images = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True).clamp(-1, 1)
    with torch.inference_mode():
        latents = torch.cat([model.encode_images(i[None].to(model.device, model.dtype)).float().cpu() for i in images])
    colours = F.avg_pool2d(images, factor)
    x = latents.permute(0, 2, 3, 1).flatten(0, 2).double()
    x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    y = colours.permute(0, 2, 3, 1).flatten(0, 2).double()
    # A little ridge: channels that these pictures do not move must not blow up on others.
    ridge = 1e-3 * x.square().mean() * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    solution = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    return solution[:-1].T.float(), solution[-1].float()
