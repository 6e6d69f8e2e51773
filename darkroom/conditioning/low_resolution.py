"""The small picture that a super-resolution model enlarges, as it is or noised (papers D.2, D.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.conditioning.noise_level import NoiseLevels, read_level
from darkroom.errors import InputError
from darkroom.pixels import as_tensor, sides
from darkroom.types import Request, Size

__all__ = ["LowResolution", "LowResolutionConfig", "Small"]


@dataclass(frozen=True)
class Small:
    """A picture (3, h, w) in [−1, 1] of the latent's size, and how much noise is put on it.

    `noise` is unit noise of its shape, drawn by the caller from the picture's seed; None adds none, yet the level is
    told.
    """

    image: Tensor
    noise_level: int = 0
    noise: Tensor | None = None


def _small(request: Request) -> Any:
    small = request.inputs.get("low_resolution")
    return request.image if small is None else small


@dataclass(frozen=True)
class LowResolutionConfig(EmbedderConfig):
    """`levels` None: no noise, no level. Otherwise the level is also given as class index."""

    levels: NoiseLevels | None = None
    default_level: int = 0  # for a bare picture
    drop_rate: float = 0.0
    kind: Literal["low_resolution"] = "low_resolution"
    key = "low_resolution"
    required = "a small picture to enlarge"
    takes_image = True
    enlarges = True

    @property
    def reads(self) -> tuple[str, ...]:
        return ("low_resolution", "image", *(("noise_level",) if self.levels is not None else ()))

    def is_given(self, request: Request) -> bool:
        return request.image is not None or super().is_given(request)

    def picture_size(self, request: Request, factor: int) -> Size | None:
        """The small picture lies beside the latent, position by position."""
        small = _small(request)
        return None if small is None else Size(*(side * factor for side in astuple(sides(small))))


class LowResolution(Embedder):
    """Both branches of guidance read the same picture and level. Absent: grey; a run needs a picture.

    Prepared are the noised picture and, as fourth channel, its level.
    """

    slot = "channels"
    config: LowResolutionConfig

    def __init__(self, config: LowResolutionConfig) -> None:
        super().__init__(config)

    def read(self, request: Request, size: Size, generator: Generator) -> Small | None:
        """The small picture of the inputs, else the request's image, noised to the level of the inputs."""
        value = _small(request)
        if value is None:
            return None
        image = as_tensor("low_resolution", value)
        if self.config.levels is None:
            return Small(image)
        noise = torch.randn(image.shape, generator=generator)
        return Small(image, read_level(request.inputs, self.config.default_level), noise)

    def prepare(self, values: Sequence[Small | Tensor | None]) -> Tensor:
        small = [Small(v, self.config.default_level) if isinstance(v, Tensor) else v for v in values]
        shapes = {tuple(v.image.shape) for v in small if v is not None} or {(3, 1, 1)}
        shape = shapes.pop()
        if shapes or len(shape) != 3 or shape[0] != 3:
            raise InputError(f"low_resolution must be pictures (3, h, w) of one size a batch, one is {list(shape)}")
        return torch.stack([torch.zeros(4, *shape[1:]) if v is None else self._noised(v) for v in small])

    def _noised(self, value: Small) -> Tensor:
        image, levels = value.image.float(), self.config.levels
        if levels is not None:
            image = levels.add_noise(image, value.noise, value.noise_level)
        return torch.cat([image, torch.full_like(image[:1], value.noise_level)])

    def forward(self, prepared: Tensor) -> Conditioning:
        if prepared.shape[-1] == 1:
            raise InputError("low_resolution is missing: this system needs a small picture")
        level = prepared[:, 3, 0, 0].round().long() if self.config.levels is not None else None
        return Conditioning(channels=prepared[:, :3], vector=level)
