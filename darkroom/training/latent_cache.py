"""Latents of a data set's pictures, encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from darkroom.data.buckets import cover
from darkroom.data.reader import Reader
from darkroom.data.source import PictureBook
from darkroom.models.autoencoder import Autoencoder
from darkroom.pixels import to_tensor
from darkroom.training.row_cache import RowCache, weights_digest
from darkroom.types import Size

__all__ = ["LatentCache", "encode_pictures"]


def encode_pictures(autoencoder: Autoencoder, images: np.ndarray, *, half: bool) -> Tensor:
    """uint8 (B, H, W, 3) to unscaled latents (B, C, h, w), float32, the posterior's mean; `half`: encoded in bf16."""
    device = autoencoder.last_layer.device
    pixels = to_tensor(images).to(device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        return autoencoder.encode(pixels).float()


class LatentCache:
    """As float16, one file for each size; pictures are cut in their middle, those mirrored have rows of their own.

    Latents of the two precisions lie in two files, so that what a run reads does not depend on who encoded first.
    """

    def __init__(self, folder: Path, autoencoder: Autoencoder, reader: Reader, *, half: bool) -> None:
        self.autoencoder, self.reader, self.half = autoencoder, reader, half
        # The encoder alone: a decoder that was trained further leaves the latents as they are.
        digest = weights_digest((autoencoder.encoder, autoencoder.quant_conv))
        data = reader.dataset
        digest.update(data.scenes.encode() if isinstance(data, PictureBook) else b"")
        weights = digest.hexdigest()[:16]
        factor, channels = autoencoder.config.factor, autoencoder.config.latent_channels
        self.caches = {
            size: RowCache(
                folder / f"latents-{weights}-{size}{'' if half else '-fp32'}.f16",
                2 * len(data),
                (channels, size.height // factor, size.width // factor),
                np.float16,
                lambda row: f"{data.key(row // 2)} {row % 2}",
            )
            for size in reader.buckets
        }

    def has(self, size: Size, index: int, *, flipped: bool) -> bool:
        """Whether the latent of picture `index` at `size` is there."""
        return not self.caches[size].absent([2 * index + flipped])

    def get(self, size: Size, rows: Sequence[tuple[int, bool]], fresh: Sequence[np.ndarray | None]) -> Tensor:
        """Latents (B, C, h, w), float32, of pictures (index, mirrored); `fresh`: the pixels of those not there."""
        cache = self.caches[size]
        numbers = [2 * index + flipped for index, flipped in rows]
        new = {n: pixels for n, pixels in zip(numbers, fresh) if pixels is not None}
        if absent := cache.absent(list(new)):
            cache.put(absent, self._encode(np.stack([new[n] for n in absent])))
        return torch.from_numpy(cache.get(numbers).astype(np.float32))

    def check(self) -> None:
        """`InputError` if a latent that is there is not that of its picture."""
        for size, cache in self.caches.items():
            cache.check(lambda numbers, size=size: self._compute(size, numbers), self._name)

    def _name(self, row: int) -> str:
        return self.reader.dataset.name(row // 2)

    def _compute(self, size: Size, numbers: list[int]) -> np.ndarray:
        rng = np.random.default_rng(0)
        samples = [self.reader.dataset.sample(n // 2, rng) for n in numbers]
        return self._encode(np.stack([cover(s, size, flip=bool(n % 2)).image for n, s in zip(numbers, samples)]))

    def _encode(self, images: np.ndarray) -> np.ndarray:
        return encode_pictures(self.autoencoder, images, half=self.half).cpu().numpy()
