"""Pictures between the bytes of the data room and the tensors of the networks."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["fitted", "grid", "picture_tensor", "to_bytes", "to_tensor"]


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [−1, 1], channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def picture_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) to float (3, H, W) in [−1, 1]."""
    return to_tensor(pixels[None])[0].contiguous()


def fitted(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 (H, W, 3) or mask (H, W) brought to height × width: pictures by Lanczos, masks to the nearest."""
    if pixels.shape[:2] == (height, width):
        return pixels
    how = Image.Resampling.LANCZOS if pixels.ndim == 3 else Image.Resampling.NEAREST
    return np.array(Image.fromarray(pixels).resize((width, height), how))


def to_bytes(images: Tensor) -> np.ndarray:
    """float (B, 3, H, W) in [−1, 1] to uint8 (B, H, W, 3), rounded."""
    scaled = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 (B, H, W, 3) side by side, `columns` a row; places left over stay white."""
    rows = -(-len(images) // columns)
    _, height, width, channels = images.shape
    sheet = np.full((rows * height, columns * width, channels), 255, np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width] = image
    return sheet
