"""Pixels as arrays and as tensors: the way from one to the other, and to another size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from darkroom.errors import InputError
from darkroom.types import Size

__all__ = ["as_tensor", "picture_tensor", "resized", "sides", "softened", "to_bytes", "to_tensor"]


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [−1, 1], channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(images: Tensor) -> np.ndarray:
    """float (B, 3, H, W) in [−1, 1] to uint8 (B, H, W, 3), rounded."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


def picture_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) to float (3, H, W) in [−1, 1]."""
    return to_tensor(pixels[None])[0].contiguous()


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 (H, W, 3) or mask (H, W) brought to height × width: pictures by Lanczos, masks to the nearest."""
    if pixels.shape[:2] == (height, width):
        return pixels
    how = Image.Resampling.LANCZOS if pixels.ndim == 3 else Image.Resampling.NEAREST
    return np.array(Image.fromarray(pixels).resize((width, height), how))


def softened(mask: np.ndarray, blur: float) -> np.ndarray:
    """A mask, bool (H, W), with its edge blurred by `blur` pixels: float32 in 0 … 1, exactly 0 far from the edge."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    if blur:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(image, np.float32) / 255


def sides(picture: Any) -> Size:
    """The size of an array (H, W, …) or a tensor (…, H, W)."""
    shape = picture.shape
    return Size(*(shape[:2] if isinstance(picture, np.ndarray) else shape[-2:]))


def as_tensor(name: str, value: Any) -> Tensor:
    """A picture (H, W, 3) of uint8 to (3, H, W) in [−1, 1], a map (H, W) to (1, H, W), a vector (D,) of
    floats as it is; tensors pass. `InputError` naming the input `name` for anything else.
    """
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return picture_tensor(array)
    if array.ndim == 2 and array.dtype.kind in "uif":
        return torch.from_numpy(array.astype(np.float32))[None]
    if array.ndim == 1 and array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    raise InputError(f"{name} has shape {list(array.shape)} of {array.dtype}, expected is a picture (H, W, 3) of uint8")
