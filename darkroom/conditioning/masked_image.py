"""What an inpainting model with extra input channels sees: mask and masked picture (papers C.9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.errors import InputError
from darkroom.pixels import picture_tensor, resized
from darkroom.types import Request, Size

__all__ = ["Masked", "MaskedImage", "MaskedImageConfig"]


@dataclass(frozen=True)
class Masked:
    """A picture (3, H, W) in [−1, 1] and its mask (1, H, W), 1 = repaint."""

    image: Tensor
    mask: Tensor


@dataclass(frozen=True)
class MaskedImageConfig(EmbedderConfig):
    """The two conventions differ in the order of the channels, the range of the mask, and the colour of the hole.

    "mask_first": mask in {0, 1}, then the encoded picture; the hole is grey (0). Stable Diffusion.
    "mask_last": the encoded picture, then the mask in {−1, 1}; the hole is black (−1). LDM.
    """

    order: Literal["mask_first", "mask_last"]
    drop_rate: float = 0.0
    kind: Literal["masked_image"] = "masked_image"
    key = "masked_image"
    reads = ("image", "mask")
    required = "a picture and a mask"
    reads_mask = True

    def is_given(self, request: Request) -> bool:
        return request.image is not None and request.mask is not None


class MaskedImage(Embedder):
    """Encodes the masked picture with the system's own first stage, latent scale included, without sampling.

    Both branches of guidance read the same. Absent: a mask that hides everything.
    """

    slot = "channels"
    config: MaskedImageConfig

    def __init__(self, config: MaskedImageConfig) -> None:
        super().__init__(config)
        self.encode_images: Callable[[Tensor], Tensor] | None = None

    def use_first_stage(self, encode: Callable[[Tensor], Tensor]) -> None:
        self.encode_images = encode

    def read(self, request: Request, size: Size, generator: Generator) -> Masked | None:
        if request.image is None or request.mask is None:
            return None
        image = picture_tensor(resized(request.image, size.width, size.height))
        mask = resized(np.asarray(request.mask) > 0, size.width, size.height)
        return Masked(image, torch.from_numpy(mask).float()[None])

    def prepare(self, values: Sequence[Masked | None]) -> Tensor:
        shapes = {tuple(v.image.shape[-2:]) for v in values if v is not None}
        shapes |= {tuple(v.mask.shape[-2:]) for v in values if v is not None}
        if len(shapes) > 1:
            raise InputError(f"pictures and masks of one batch must agree in size, theirs are {sorted(shapes)}")
        height, width = shapes.pop() if shapes else (1, 1)
        hidden = torch.cat([torch.zeros(3, height, width), torch.ones(1, height, width)])
        return torch.stack([hidden if v is None else _joined(v) for v in values])  # (B, 4, H, W)

    def forward(self, prepared: Tensor) -> Tensor:
        assert self.encode_images is not None, "set by the system that this embedder belongs to"
        image, mask = prepared[:, :3], (prepared[:, 3:] >= 0.5).to(prepared.dtype)
        if prepared.shape[-1] == 1:
            raise InputError("masked_image is missing: this system needs a picture and a mask")
        last = self.config.order == "mask_last"
        known = self.encode_images(torch.where(mask.bool(), -1.0 if last else 0.0, image))  # (B, C, h, w)
        mask = F.interpolate(mask, size=known.shape[-2:], mode="nearest").to(known.dtype)
        return torch.cat([known, mask * 2 - 1] if last else [mask, known], dim=1)


def _joined(value: Masked) -> Tensor:
    if value.image.shape[0] != 3 or value.mask.shape[0] != 1:
        shapes = f"{list(value.image.shape)} and {list(value.mask.shape)}"
        raise InputError(f"picture and mask have the shapes {shapes}, expected are [3, H, W] and [1, H, W]")
    return torch.cat([value.image.float(), value.mask.float()])
