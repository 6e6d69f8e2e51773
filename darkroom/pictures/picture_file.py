"""Picture files that carry their request: PNG as text, JPEG and WebP in EXIF (conventions of A1111)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from darkroom.errors import InputError
from darkroom.whole_file import whole_file

__all__ = ["FORMATS", "check_writable", "user_comment", "write_picture"]

FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
UNICODE = b"UNICODE\0"  # how the comment is written: EXIF 2.3, section 4.6.5
MAX_JPEG = 65_000  # bytes: EXIF is one segment of at most 65,533


def check_writable(folder: Path) -> None:
    """`InputError` if `folder` cannot be made or nothing can be written there. Leaves everything as it was."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    probe = folder / f".darkroom-{os.getpid()}"
    what = f"the output folder {folder} cannot be made"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        what = f"nothing can be written to the output folder {folder}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{what}: {error.strerror}") from None
    finally:
        for made in missing:
            with contextlib.suppress(OSError):  # not made, or another process has begun to write there
                made.rmdir()


def write_picture(path: Path, pixels: np.ndarray, parameters: str, quality: int = 95) -> None:
    """Write uint8 (H, W, 3) in the format of the path's ending, with `parameters`, whole or not at all.

    PNG: text under the key `parameters`. JPEG and WebP: EXIF's UserComment; `quality` is theirs.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise InputError(f"unknown format {ending!r} of {path}; known are: {', '.join(FORMATS)}")
    image = Image.fromarray(pixels)
    parameters = parameters.encode(errors="replace").decode()  # lone surrogates, which no format holds
    comment = UNICODE + parameters.encode("utf-16-be")
    if FORMATS[ending] == "JPEG" and len(comment) > MAX_JPEG:
        raise InputError(f"{path} cannot hold the {len(parameters)} characters of its request, which png and webp can")
    with whole_file(path) as file:
        if FORMATS[ending] == "PNG":
            info = PngInfo()
            info.add_text("parameters", parameters)  # as iTXt where Latin-1 does not hold it
            image.save(file, format="PNG", pnginfo=info)
        else:
            exif = Image.Exif()
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
            image.save(file, format=FORMATS[ending], quality=quality, exif=exif)


def user_comment(image: Image.Image) -> str | None:
    """The text in EXIF's UserComment, whatever byte order it was written in."""
    value = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        return None
    if value.startswith(UNICODE):
        body = value[len(UNICODE) :]
        # Writers disagree on the order; in text of any Western share the zero bytes tell.
        order = "utf-16-be" if body[::2].count(0) >= body[1::2].count(0) else "utf-16-le"
        return body.decode(order, errors="replace")
    return value.removeprefix(b"ASCII\0\0\0").decode("utf-8", errors="replace")
