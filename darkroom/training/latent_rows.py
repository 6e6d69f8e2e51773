"""Rows of a data set as a latent diffusion system learns from them: latents, and inputs of its embedders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.conditioning.embedder import Embedder
from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.systems.build import LatentDiffusion
from darkroom.training.embedder_inputs import InputMaker
from darkroom.training.latent_cache import LatentCache, encode_pictures
from darkroom.training.objective import StepContext
from darkroom.types import Sample, Size

__all__ = ["LatentBatch", "LatentRows"]


@dataclass(frozen=True)
class LatentBatch:
    """Rows of one size. `pixels` where latents must be encoded first."""

    pictures: Sequence[tuple[int, bool]]  # number in the data set, and whether it is mirrored
    pixels: Sequence[np.ndarray | None]  # uint8 (H, W, 3)
    prepared: Mapping[str, Tensor]
    weights: Tensor  # (B,)
    mask: Tensor | None  # (B, 1, H, W)
    inputs: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # those that frozen networks prepare in the step


class LatentRows:
    """Reads rows for `model`, whose first stage is frozen; latents are kept in the folder `cache` if there is one.

    `inputs`: how what the embedders read comes about; as the data have it when not given.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        reader: Reader,
        cache: Path | None,
        inputs: InputMaker | None = None,
        *,
        half: bool,
    ) -> None:
        self.model, self.reader, self.half = model, reader, half
        self.embedders = model.conditioner.embedders
        self.inputs = InputMaker(model.system) if inputs is None else inputs
        self.from_pixels = self.inputs.needs_pixels()
        self.cache = None if cache is None else LatentCache(cache, model.autoencoder, reader, half=half)
        if self.cache is not None:
            self.cache.check()

    def batch(self, places: Sequence[Place], *, pixels: bool = False) -> LatentBatch:
        """The rows at `places`; `pixels`: with their pictures, wherever latents come from."""
        samples, pictures, images, inputs = [], [], [], []
        for place in places:
            sample, index, image = self._read(place, pixels=pixels)
            samples.append(sample)
            inputs.append(self.inputs.inputs(sample, place.rng(self.reader.seed + 2)))
            pictures.append((index, sample.flipped))
            images.append(image)
        masks = None
        if any(s.loss_mask is not None for s in samples):
            ones = np.ones((places[0].size.height, places[0].size.width), np.float32)
            masks = torch.from_numpy(np.stack([ones if s.loss_mask is None else s.loss_mask for s in samples]))[:, None]
        prepared, later = self._prepared(inputs)
        return LatentBatch(
            pictures,
            images,
            prepared,
            torch.tensor([s.weight for s in samples]),
            masks,
            later,
        )

    def _prepared(self, inputs: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, list[Any]]]:
        """What can be prepared here, and what needs the device, which a process that makes batches does not touch."""
        prepared, later = {}, {}
        for key, embedder in self.embedders.items():
            assert isinstance(embedder, Embedder)
            values = [i[key] for i in inputs]
            if embedder.prepares_on_device:
                later[key] = values
            else:
                prepared[key] = embedder.prepare(values)
        return prepared, later

    def _read(self, place: Place, *, pixels: bool) -> tuple[Sample, int, np.ndarray | None]:
        """The sample at `place`, its number in the data set, and its pixels where they are needed."""
        if self.cache is not None and not (self.from_pixels or pixels):
            sample = self.reader.read(place, pixels=False)
            index = self.reader.used[-1].index
            if self.cache.has(place.size, index, flipped=sample.flipped):
                return sample, index, None
            self.reader.used.pop()  # read once more, with pixels: they may turn out to be damaged
        sample = self.reader.read(place)
        return sample, self.reader.used[-1].index, sample.image

    def latents(self, batch: LatentBatch, size: Size) -> Tensor:
        """Scaled latents (B, C, h, w) of the pictures of `size`, on the model's device."""
        if self.cache is not None:
            found = self.cache.get(size, batch.pictures, batch.pixels)
        else:
            images = [pixels for pixels in batch.pixels if pixels is not None]
            found = encode_pictures(self.model.autoencoder, np.stack(images), half=self.half)
        return found.to(self.model.device) * self.model.system.latent_scale

    def conditioning(self, batch: LatentBatch, context: StepContext, *, drop: bool = True) -> Conditioning:
        """Of the rows, some inputs made absent at their embedders' rates unless `drop` is false."""
        conditioner = self.model.conditioner
        prepared = dict(batch.prepared)
        for key, values in batch.inputs.items():
            embedder = conditioner.embedders[key]
            assert isinstance(embedder, Embedder)
            prepared[key] = embedder.prepare(values)
        if drop:
            prepared = conditioner.drop(prepared, context.draws.uniform)
        return conditioner({k: t.to(self.model.device) for k, t in prepared.items()})

    def mask(self, batch: LatentBatch, latents: Tensor) -> Tensor | None:
        """Weights of places (B, 1, h, w) at the size of `latents`; None where all weigh the same."""
        if batch.mask is None:
            return None
        return F.interpolate(batch.mask.to(latents.device), size=latents.shape[-2:], mode="area")
