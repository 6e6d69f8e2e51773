"""Pictures between the bytes of the data room and the tensors of the networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from darkroom.errors import InputError

__all__ = ["grid", "opened", "read_mask", "read_numbers", "read_pixels", "to_bytes", "to_tensor"]


def to_tensor(images: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [−1, 1], channels last in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


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


def read_pixels(path: Path) -> np.ndarray:
    """The picture in the file as uint8 (H, W, 3), turned upright; transparent places become white."""
    with opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if "A" in upright.getbands() or "transparency" in upright.info:
            upright = upright.convert("RGBA")
            paper = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(paper, upright)
        return np.array(upright.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """uint8 (H, W), 1 = repaint: where the file's transparency is open, or, without any, where it is bright."""
    with opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        if "A" in upright.getbands():
            return (np.asarray(upright.getchannel("A")) < 128).astype(np.uint8)
        return (np.asarray(upright.convert("L")) >= 128).astype(np.uint8)


def read_numbers(path: Path) -> np.ndarray:
    """The values of a file with one channel (class numbers, depth) as int32 (H, W): palettes give their indices."""
    with opened(path) as image:
        if len(image.getbands()) != 1:
            raise InputError(f"{path} has {len(image.getbands())} channels, wanted is one: the numbers of a map")
        return np.asarray(image).astype(np.int32)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture in the file, decoded; anything wrong with it is an `InputError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"{path} claims more than {Image.MAX_IMAGE_PIXELS} pixels") from None
    except FileNotFoundError:
        raise InputError(f"there is no picture {path}") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}") from None
