"""Picture files that carry their request: PNG as text, JPEG and WebP in EXIF (conventions of A1111)."""

from __future__ import annotations

import codecs
import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from darkroom.errors import InputError, cause
from darkroom.whole_file import new_file, temporary_prefix, whole_file

__all__ = [
    "FORMATS",
    "LONGEST",
    "check_size",
    "check_writable",
    "encoded",
    "metadata",
    "next_number",
    "numbered_paths",
    "user_comment",
    "write_new_picture",
    "write_picture",
]

FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
LONGEST = {
    "PNG": 2**31 - 1,
    "JPEG": 65_500,
    "WEBP": 16_383,
    "GIF": 65_535,
}  # pixels of a side, by what the formats can say
UNICODE = b"UNICODE\0"  # how the comment is written: EXIF 2.3, section 4.6.5
BOMS = (codecs.BOM_UTF16_BE, codecs.BOM_UTF16_LE)
MAX_JPEG = 65_000  # bytes: EXIF is one segment of at most 65,533
NUMBERED = re.compile(r"(\d{5,12})-")  # what the names of numbered pictures begin with


def check_writable(folder: Path, name: str = "") -> None:
    """`InputError` if `folder` cannot be made or nothing can be written there, such as a file called `name`.

    It is not made, since another process might come to write there before it is taken away again: what is tried is
    to make a folder of another name in it, or in the nearest folder above it that there is.
    """
    what = f"the output folder {folder} cannot be made"
    try:
        existing = next(f for f in (folder, *folder.parents) if _is_there(f))
        if not stat.S_ISDIR(existing.stat().st_mode):  # of a link to itself or to nothing an OSError
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if existing == folder:
            what = f"nothing can be written to the output folder {folder}"
        os.rmdir(tempfile.mkdtemp(prefix=temporary_prefix(), dir=existing))
        if name:
            what = f"{folder / name} cannot be written"
            _is_there(existing / name)
    except OSError as error:
        raise InputError(f"{what}: {cause(error)}") from None


def _is_there(path: Path) -> bool:
    """Whether `path` is anything, a link to nothing too; `OSError` for a name that nothing can have."""
    with suppress(FileNotFoundError, NotADirectoryError):
        path.lstat()
        return True
    return False


def next_number(folder: Path) -> int:
    """One more than the highest number that a file in `folder` begins with, 0 for none."""
    found = (NUMBERED.match(p.name) for p in folder.glob("*"))
    return max((int(f[1]) for f in found if f), default=-1) + 1


def numbered_paths(folder: Path, first: int, ending: str) -> Iterator[Path]:
    """The paths in `folder` that a picture may get: `first` in five digits or more and `ending`, then the next."""
    return (folder / f"{number:05d}{ending}" for number in count(first))


def write_picture(path: Path, pixels: np.ndarray, parameters: str, quality: int = 95) -> None:
    """Write uint8 (H, W, 3) to `path`, in place of what is there, whole or not at all.

    The format is that of the ending. PNG holds `parameters` as a text of that name, JPEG and WebP as EXIF's
    UserComment; `quality` is theirs. `InputError` if the ending is unknown or the file cannot be written.
    """
    with whole_file(path) as file:
        _write(file, path, pixels, parameters, quality)


def write_new_picture(paths: Iterator[Path], pixels: np.ndarray, parameters: str, quality: int = 95) -> Path:
    """`write_picture` to the first of `paths`, in one folder and of one ending, that is free; returns it."""
    first = next(paths)
    with new_file(chain([first], paths)) as new:
        _write(new.file, first, pixels, parameters, quality)
    return new.path


def encoded(form: str, pixels: np.ndarray, parameters: str, quality: int = 95) -> bytes:
    """The bytes of a picture's file in the format `form`, one of FORMATS; otherwise as `write_picture`."""
    buffer = BytesIO()
    _write(buffer, Path(f"the picture.{form}"), pixels, parameters, quality)
    return buffer.getvalue()


def _write(file: BinaryIO, path: Path, pixels: np.ndarray, parameters: str, quality: int) -> None:
    """The picture in the format of `path`'s ending."""
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise InputError(f"unknown format {ending!r} of {path}; known are: {', '.join(FORMATS)}")
    form = FORMATS[ending]
    image = Image.fromarray(pixels)
    check_size(path, form, image.size)
    options = metadata(path, form, parameters)
    image.save(file, format=form, **(options if form == "PNG" else {**options, "quality": quality}))


def check_size(path: Path, form: str, size: tuple[int, int]) -> None:
    """`InputError` if files of the format `form` cannot say `size` (width, height)."""
    if max(size) > LONGEST[form]:
        raise InputError(f"{path} cannot hold {size[0]}x{size[1]} pixels, {form} takes {LONGEST[form]} a side")


def metadata(path: Path, form: str, parameters: str) -> dict[str, Any]:
    """What Pillow's `save` is given to write `parameters` into a file of the format `form`."""
    parameters = parameters.encode(errors="replace").decode()  # lone surrogates, which no format holds
    if form == "PNG":
        info = PngInfo()
        info.add_text("parameters", parameters)  # as iTXt where Latin-1 does not hold it
        return {"pnginfo": info}
    if form == "GIF":
        return {"comment": parameters.encode()}
    comment = UNICODE + parameters.encode("utf-16-be")
    if form == "JPEG" and len(comment) > MAX_JPEG:
        raise InputError(f"{path} cannot hold the {len(parameters)} characters of its request, which png and webp can")
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return {"exif": exif}


def user_comment(image: Image.Image) -> str | None:
    """The text in EXIF's UserComment, whatever byte order it was written in."""
    value = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        return None
    if value.startswith(UNICODE):
        body = value[len(UNICODE) :]
        if body.startswith(BOMS):
            return body.decode("utf-16", errors="replace")
        # Writers disagree on the order; in text of any Western share the zero bytes tell.
        order = "utf-16-be" if body[::2].count(0) >= body[1::2].count(0) else "utf-16-le"
        return body.decode(order, errors="replace")
    return value.removeprefix(b"ASCII\0\0\0").removeprefix(bytes(8)).decode("utf-8", errors="replace")
