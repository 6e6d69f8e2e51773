"""The size of a picture, read from its first bytes alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image

from darkroom.errors import InputError
from darkroom.types import Size

__all__ = ["ENDINGS", "picture_size"]

# Endings of files that are taken for pictures, and the formats that such files may hold: none runs another program.
ENDINGS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides


def picture_size(source: Path | BinaryIO, name: str | None = None) -> Size:
    """Of the picture in `source`, upright as its EXIF data say; `name` stands for it in errors."""
    told = name or str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as image:
                width, height = image.size
                orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"{told} claims more than {Image.MAX_IMAGE_PIXELS} pixels") from None
    except (OSError, ValueError, SyntaxError, MemoryError, EOFError) as error:
        raise InputError(f"{told} cannot be read as a picture: {error}") from None
    return Size(width, height) if orientation in TURNED else Size(height, width)
