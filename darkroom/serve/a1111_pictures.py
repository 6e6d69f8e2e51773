"""Pictures in AUTOMATIC1111's bodies, base64 in and out, changed as its fields say before they become uploads."""

from __future__ import annotations

import base64
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

from darkroom.errors import InputError, printable, require
from darkroom.serve.intake import decoded_base64
from darkroom.types import Size

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow

__all__ = ["UPSCALERS", "covering", "encoded_png", "inverted", "resized", "stretched"]

MAX_PIXELS = 32_000_000
UPSCALERS = ("None", "Lanczos", "Nearest")


def edited(text: str, name: str, edit: Callable[[Pillow], Pillow]) -> str:
    """The picture `text`, called `name` in errors, as `edit` changes it. `InputError` if it is no sound picture."""
    from darkroom.pictures.reading import opened, read_size

    content = decoded_base64(text, name)
    size = read_size(BytesIO(content), name)
    require(size.height * size.width <= MAX_PIXELS, name, size, f"at most {MAX_PIXELS} pixels")
    with opened(BytesIO(content), name) as image:
        return encoded_png(edit(image))


def encoded_png(image: Pillow) -> str:
    """As PNG in base64."""
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return base64.b64encode(buffer.getvalue()).decode()


def inverted(text: str, name: str) -> str:
    """A mask whose white becomes black."""
    from PIL import ImageOps

    return edited(text, name, lambda image: ImageOps.invert(image.convert("L")))


def covering(text: str, name: str, size: Size) -> str:
    """The picture scaled to cover `size`, its middle cut out."""
    from PIL import Image, ImageOps

    sides = (size.width, size.height)
    return edited(text, name, lambda image: ImageOps.fit(image, sides, Image.Resampling.LANCZOS))


def stretched(text: str, name: str, size: Size) -> str:
    """The picture with the sides of `size`, whatever its shape."""
    from PIL import Image

    return edited(text, name, lambda image: image.resize((size.width, size.height), Image.Resampling.LANCZOS))


def resized(text: str, name: str, upscaler: str, target: Callable[[Size], Size], most: int) -> str:
    """The picture at the size that `target` makes of its own, at most `most` pixels, by one of `UPSCALERS`."""
    from PIL import Image

    if upscaler not in UPSCALERS:
        raise InputError(f"unknown upscaler {printable(upscaler)}; known are: {', '.join(UPSCALERS)}")
    method = Image.Resampling.NEAREST if upscaler == "Nearest" else Image.Resampling.LANCZOS

    def edit(image: Pillow) -> Pillow:
        size = target(Size(image.height, image.width))
        require(min(size.height, size.width) >= 1, "the new size", size, "at least 1x1")
        require(size.height * size.width <= most, "the new size", size, f"at most {most} pixels on this server")
        return image.convert("RGB").resize((size.width, size.height), method)

    return edited(text, name, edit)
