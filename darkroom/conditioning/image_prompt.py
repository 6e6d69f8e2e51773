"""A picture as prompt: its CLIP embedding, noised, beside the level of that noise (stable unCLIP; papers D.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.conditioning.noise_level import NoiseLevels, read_level
from darkroom.errors import InputError
from darkroom.models.vision import VisionConfig, VisionTower, prepare_image
from darkroom.nn.embeddings import sinusoid
from darkroom.pixels import as_tensor
from darkroom.types import Request, Size

__all__ = ["ImagePrompt", "ImagePromptConfig", "PromptImage"]

ABSENT = -1.0  # the level of a missing image


@dataclass(frozen=True)
class PromptImage:
    """A picture (3, H, W) in [−1, 1], or its embedding (D,), and how much noise is put on the embedding.

    `noise` (D,) is unit noise, drawn by the caller from the picture's seed; None adds none, yet the level is told.
    """

    image: Tensor
    noise_level: int = 0
    noise: Tensor | None = None


@dataclass(frozen=True)
class ImagePromptConfig(EmbedderConfig):
    tower: VisionConfig
    levels: NoiseLevels
    drop_rate: float = 0.0
    kind: Literal["image_prompt"] = "image_prompt"
    key = "image_prompt"
    reads = ("image_prompt", "image", "noise_level")
    takes_image = True


class ImagePrompt(Embedder):
    """Normalised by stored mean and deviation, noised, restored; then a sinusoid of the level, as wide again.

    The tower is frozen, so it runs in `prepare`, where its result can be cached; prepared are the noised embedding and
    its level. Absent, dropped and unconditional: zeros for both halves of the vector.
    """

    slot = "vector"
    guided = True
    prepares_on_device = True
    config: ImagePromptConfig
    mean: Tensor  # (D,)
    std: Tensor

    def __init__(self, config: ImagePromptConfig) -> None:
        super().__init__(config)
        self.tower = VisionTower(config.tower).requires_grad_(False)
        self.register_buffer("mean", torch.zeros(config.tower.projection))
        self.register_buffer("std", torch.ones(config.tower.projection))

    def read(self, request: Request, size: Size, generator: Generator) -> PromptImage | None:
        """The image prompt of the inputs, else the request's image, noised to the level of the inputs."""
        value = request.inputs.get(self.key)
        value = request.image if value is None else value
        if value is None:
            return None
        noise = torch.randn(self.config.tower.projection, generator=generator)
        return PromptImage(as_tensor("image_prompt", value), read_level(request.inputs, 0), noise)

    def prepare(self, values: Sequence[PromptImage | Tensor | None]) -> Tensor:
        prompts = [PromptImage(v) if isinstance(v, Tensor) else v for v in values]
        nothing = torch.zeros(self.config.tower.projection + 1)
        nothing[-1] = ABSENT
        return torch.stack([nothing if p is None else self._noised(p) for p in prompts])  # (B, D + 1)

    @torch.no_grad()
    def _noised(self, prompt: PromptImage) -> Tensor:
        e = self.embed(prompt.image)
        mean, std = self.mean.float().cpu(), self.std.float().cpu()
        e = self.config.levels.add_noise((e - mean) / std, prompt.noise, prompt.noise_level) * std + mean
        return torch.cat([e, torch.tensor([float(prompt.noise_level)])])

    def embed(self, image: Tensor) -> Tensor:
        """The embedding (D,) of a picture, in float32 on the CPU; an embedding is passed on."""
        c = self.config.tower
        if image.dim() == 1 and len(image) == c.projection:
            return image.float().cpu()
        if image.dim() != 3 or image.shape[0] != 3:
            raise InputError(f"image_prompt has shape {list(image.shape)}, expected is [3, H, W] or [{c.projection}]")
        weight = self.tower.patch_embedding.weight
        return self.tower(prepare_image(image[None].to(weight.device), c.image_size))[0].float().cpu()

    def forward(self, prepared: Tensor) -> Tensor:
        e, level = prepared[:, :-1], prepared[:, -1]
        vector = torch.cat([e, sinusoid(level, e.shape[1]).to(e)], dim=1)  # (B, 2 · D)
        return vector * (level != ABSENT).to(vector)[:, None]
