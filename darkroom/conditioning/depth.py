"""A depth map beside the latent (Stable Diffusion 2 depth; papers D.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.errors import InputError
from darkroom.models.depth import DepthConfig, DepthEstimator, depth_input
from darkroom.pixels import as_tensor
from darkroom.types import Request, Size

__all__ = ["Depth", "DepthMapConfig"]


@dataclass(frozen=True)
class DepthMapConfig(EmbedderConfig):
    estimator: DepthConfig
    factor: int  # f of the first stage
    drop_rate: float = 0.0
    kind: Literal["depth"] = "depth"
    key = "depth"
    reads = ("depth", "image")
    required = "a picture or a depth map"
    tells_layout = True

    def is_given(self, request: Request) -> bool:
        return request.image is not None or super().is_given(request)


class Depth(Embedder):
    """Reads a picture (3, H, W) in [−1, 1], whose depth is estimated, or a depth map (1, H, W), near is large.

    Either comes to the latent's size by bicubic interpolation and is stretched to [−1, 1]. The estimator is frozen, so
    it runs in `prepare`. Both branches of guidance read the same. Absent: −1 everywhere; a run needs a picture.
    """

    slot = "channels"
    prepares_on_device = True
    config: DepthMapConfig

    def __init__(self, config: DepthMapConfig) -> None:
        super().__init__(config)
        self.estimator = DepthEstimator(config.estimator).requires_grad_(False)

    def read(self, request: Request, size: Size, generator: Generator) -> Tensor | None:
        """The depth map of the inputs, else the request's image, at the size of the picture that is drawn."""
        value = request.inputs.get(self.key)
        value = request.image if value is None else value
        if value is None:
            return None
        picture, sides = as_tensor("depth", value), (size.height, size.width)
        if picture.dim() != 3 or picture.shape[1:] == sides:
            return picture
        return F.interpolate(picture[None].float(), sides, mode="bilinear", antialias=True, align_corners=False)[0]

    def prepare(self, values: Sequence[Tensor | None]) -> Tensor:
        shapes = {tuple(v.shape[-2:]) for v in values if v is not None}
        if len(shapes) > 1 or any(v is not None and (v.dim() != 3 or len(v) not in (1, 3)) for v in values):
            found = [list(v.shape) for v in values if v is not None]
            raise InputError(
                f"depth must be pictures [3, H, W] or maps [1, H, W] of one size a batch, these are {found}"
            )
        side = [s // self.config.factor for s in shapes.pop()] if shapes else [1, 1]
        nothing = torch.full((1, *side), -1.0)
        return torch.stack([nothing if v is None else self._map(v, side) for v in values])  # (B, 1, h, w)

    @torch.no_grad()
    def _map(self, value: Tensor, side: list[int]) -> Tensor:
        depth = value[None].float()
        if len(value) == 3:
            weight = self.estimator.stem_conv.weight
            depth = self.estimator(depth_input(depth.to(weight.device), self.config.estimator.image_size)).float().cpu()
        depth = F.interpolate(depth, size=side, mode="bicubic", align_corners=False)[0]
        low, high = depth.min(), depth.max()
        return 2 * (depth - low) / (high - low).clamp(min=1e-6) - 1  # a flat map stays finite

    def forward(self, prepared: Tensor) -> Tensor:
        if prepared.shape[-1] == 1:
            raise InputError("depth is missing: this system needs a picture or a depth map")
        return prepared
