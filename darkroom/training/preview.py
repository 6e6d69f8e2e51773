"""Objective: a tiny decoder for previews, distilled from a first stage (after TAESD, madebyollin/taesd)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from darkroom.checkpoints.taesd import write_tiny_decoder
from darkroom.data.buckets import BucketConfig
from darkroom.data.catalog import DatasetConfig
from darkroom.data.order import Place
from darkroom.errors import require
from darkroom.models.tiny_autoencoder import WIDTH, TinyDecoder
from darkroom.pictures.images import grid
from darkroom.pixels import to_bytes, to_tensor
from darkroom.systems.system import System
from darkroom.training.autoencoder import gradient_loss
from darkroom.training.config import LoopConfig
from darkroom.training.model_ref import load_model_ref, require_known, system_of
from darkroom.training.objective import Loss, StepContext
from darkroom.training.recipe_data import buckets_of, check_sizes, first_pictures, open_reader

__all__ = ["PreviewObjective", "PreviewRecipe"]


@dataclass(frozen=True)
class PreviewRecipe:
    """The export lies in a model's folder as `taesd_decoder.safetensors`, and its previews are made by it."""

    loop: LoopConfig
    data: DatasetConfig
    model: str  # whose first stage is taught: a file, folder, hub id or name, as `-m` takes it
    vae: str | None = None  # another first stage: a recipe's export, a file or folder of any layout
    buckets: BucketConfig | None = None  # sizes for pictures of any size
    width: int = WIDTH  # channels; other tools read 64 alone
    gradient_weight: float = 0.5  # of the L1 loss of differences between neighbors, at full and half resolution
    kind: Literal["preview"] = "preview"

    def __post_init__(self) -> None:
        require_known(self.model)
        require(1 <= self.width <= 1024, "width", self.width, "1 to 1024")
        require(0 <= self.gradient_weight <= 1e6, "gradient_weight", self.gradient_weight, "a number from 0 up")
        buckets_of(self.data, self.buckets)
        if (system := system_of(self.model)) is not None:
            check_sizes(self.data, self.buckets, *_sides(system))


class PreviewObjective:
    """Latents of pictures go in, what the first stage makes of them is to come out."""

    ema = ("preview",)

    def __init__(self, recipe: PreviewRecipe) -> None:
        self.recipe = recipe
        self.model = load_model_ref(recipe.model, recipe.vae, "auto", recipe.loop.device).requires_grad_(False).eval()
        check_sizes(recipe.data, recipe.buckets, *_sides(self.model.system))
        self.reader = open_reader(recipe.data, recipe.buckets, recipe.loop)
        stage = self.model.autoencoder.config
        self.decoder = TinyDecoder(stage.latent_channels, stage.factor.bit_length() - 1, recipe.width)
        self.trained = nn.ModuleDict({"preview": self.decoder})
        self.frozen = nn.ModuleDict({"autoencoder": self.model.autoencoder})  # the rest is not needed

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {"preview": list(self.decoder.parameters())}

    def batch(self, places: Sequence[Place]) -> Tensor:
        return to_tensor(np.stack([self.reader.read(place).image for place in places]))

    def losses(self, batch: Tensor, context: StepContext) -> Iterator[Loss]:
        latents, decoded = self._taught(batch)
        seen = self.decoder(latents).float()
        absolute = (seen - decoded).abs().mean()
        total = absolute + self.recipe.gradient_weight * gradient_loss(decoded, seen)
        yield Loss("preview", total, {"l1": absolute.detach()})

    @torch.no_grad()
    def _taught(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled latents (B, C, h, w) and what the first stage makes of them, (B, 3, H, W) in [−1, 1]."""
        images = images.to(next(self.decoder.parameters()).device)
        latents = self.model.encode_images(images).float()
        return latents, self.model.decode_latents(latents).float().clamp(-1, 1)

    @torch.no_grad()
    def samples(self) -> np.ndarray | None:
        """The first eight pictures through the first stage, above the same through the tiny decoder."""
        pictures = first_pictures(self.reader, 8)
        latents, decoded = self._taught(to_tensor(np.stack(pictures)))
        rows = np.concatenate([to_bytes(decoded), to_bytes(self.decoder(latents))])
        return grid(rows, len(pictures))

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        write_tiny_decoder(folder, self.decoder, {f"darkroom.{k}": str(v) for k, v in metadata.items()})


def _sides(system: System) -> tuple[int, int]:
    """Of what sides of pictures are multiples, and the least: one latent position."""
    factor = system.autoencoder.factor
    require(factor & (factor - 1) == 0, f"the factor of {system.name}", factor, "a power of two")
    return factor, 2 * factor
