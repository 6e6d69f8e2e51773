"""Pictures from files that anybody made: of known formats, within bounds, brought to the few arrays that are used here.

What a file holds, and what it becomes:

- Only the formats of FORMATS are opened, whatever the name's ending says; of animations and pages the first.
- EXIF orientation is applied (in PNG where it stands before the pixels), to pictures, masks and maps alike.
- Color profiles are applied: pixels are sRGB. A profile that is damaged or of another kind than the pixels is ignored.
- Gray of 16 bits: 65,535 is white (of 12 bits: 4,095); TIFF's that count from white down are turned round.
- Gray of 32 bits: white is the first of 1 (floating point only), 255 and 65,535 that no value exceeds, or in floating
  point by a tenth at most, as sharpening leaves it; where some do, or are as far below 0, the lowest value is black and
  the highest white.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from darkroom.errors import InputError, cause
from darkroom.types import Size

__all__ = [
    "DAMAGE",
    "ENDINGS",
    "MAX_PIXELS",
    "UNREAD",
    "opened",
    "read_classes",
    "read_depth",
    "read_mask",
    "read_pixels",
    "read_size",
]

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it finds wrong is said once, in an `InputError`

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
ENDINGS = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # theirs, in lower case
UNREAD = (  # endings of pictures in other formats, or under names that are not looked for
    ".heic", ".heif", ".hif", ".heics", ".avifs", ".jxl", ".jxr", ".wdp", ".jp2", ".j2k", ".jpf", ".jpx", ".jfif",
    ".jpe", ".jif", ".apng", ".qoi", ".bpg", ".flif", ".svg", ".svgz", ".eps", ".ai", ".cdr", ".emf", ".wmf", ".psd",
    ".psb", ".xcf", ".kra", ".ora", ".afphoto", ".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw",
    ".srf", ".sr2", ".orf", ".raf", ".rw2", ".rwl", ".pef", ".srw", ".x3f", ".3fr", ".fff", ".erf", ".kdc", ".dcr",
    ".mrw", ".mef", ".mos", ".iiq", ".gpr", ".exr", ".hdr", ".tga", ".ico", ".icns", ".cur", ".dds", ".dib", ".pcx",
    ".pict", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm", ".sgi", ".xbm", ".xpm", ".wbmp",
)  # fmt: skip
MAX_PIXELS = 89_478_485  # 256 MiB of RGB, Pillow's own bound of what it takes for an attack
DENSEST = 1032 * 8  # pixels in a byte of a PNG: deflate packs 1032 bytes into one, a byte holds 8 pixels at most
MAX_METADATA = 16 << 20  # bytes of texts, profiles and EXIF in one file

# What Pillow raises at damaged and hostile files: its readers unpack, index and look up what they find.
DAMAGE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, AssertionError),
    *(ArithmeticError, RuntimeError, MemoryError, BufferError, struct.error, zlib.error),
)

# EXIF orientations and what turns a picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_THEIR_SIDE = (5, 6, 7, 8)


def read_size(source: Path | BinaryIO, name: str | None = None) -> Size:
    """Of the picture in `source`, upright, from the file's first bytes alone; `name` stands for it in errors."""
    with _header(source, name) as image:
        width, height = image.size
        return Size(width, height) if _orientation(image) in _ON_THEIR_SIDE else Size(height, width)


def read_pixels(source: Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """The picture as uint8 (H, W, 3), RGB; transparent places show white paper."""
    with opened(source, name) as image:
        color, alpha = _layers(image, name or str(source))
        rgb = _srgb(color, image.info.get("icc_profile"))
        if alpha is not None:
            rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
        return np.array(rgb)


def read_mask(source: Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """uint8 (H, W), 1 = repaint: where the picture is transparent, or, if it is so nowhere, where it is bright.

    Half transparent and half bright are the borders. A palette's transparency counts as any other.
    """
    with opened(source, name) as image:
        color, alpha = _layers(image, name or str(source))
        if alpha is not None and (transparency := np.asarray(alpha)).min() < 255 - ALPHA_NOISE:
            return (transparency < 128).astype(np.uint8)
        return (np.asarray(_rgb(color).convert("L")) >= 128).astype(np.uint8)


def read_classes(source: Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """The class numbers of a map as int32 (H, W): gray values as they stand, palettes give their indices."""
    name = name or str(source)
    with opened(source, name) as image:
        if image.mode in ("P", "PA"):
            return np.asarray(image.getchannel("P")).astype(np.int32)
        values = _gray(image, name, "a map of class numbers")
    if values.dtype.kind == "f" and (values % 1).any():
        raise InputError(f"{name} holds fractions, expected are class numbers")
    if values.min() < -(2**31) or values.max() >= 2**31:
        raise InputError(f"{name} holds numbers up to {values.max():g}, expected are class numbers")
    return values.astype(np.int32)


def read_depth(source: Path | BinaryIO, name: str | None = None) -> np.ndarray:
    """The values of a gray picture as float32 (H, W), in the file's own units; what they are scaled to is the reader's.

    Gray pictures saved as RGB or with a palette are gray; colored ones are refused.
    """
    name = name or str(source)
    with opened(source, name) as image:
        return _gray(image, name, "a gray depth map").astype(np.float32)


@contextmanager
def opened(source: Path | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """The picture in `source`, decoded and upright, with the file's `info`; anything wrong with it is an `InputError`.

    `name` stands for the file in errors.
    """
    with _header(source, name) as image:
        turn = _TURNS.get(_orientation(image))
        with _guarded(name or str(source)), _libtiff_silent(image):
            image.load()
            upright = image if turn is None else image.transpose(turn)
        yield upright


@contextmanager
def _header(source: Path | BinaryIO, name: str | None) -> Iterator[Image.Image]:
    """The picture in `source` before its pixels are read, of a known format and within the limits."""
    name = name or str(source)
    with _guarded(name):
        if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):  # a pipe would wait for ever
            raise OSError("it is no regular file")
        image = Image.open(source, formats=FORMATS)
    with image:
        claimed = image.width * image.height
        if claimed > MAX_PIXELS:
            raise InputError(f"{name} claims {image.width}x{image.height} pixels, at most {MAX_PIXELS} are read")
        if image.format == "PNG" and image.fp is not None and claimed > DENSEST * (size := _bytes_of(image.fp)):
            raise InputError(f"{name} claims {image.width}x{image.height} pixels, which its {size} bytes cannot hold")
        held = sum(len(v) for v in image.info.values() if isinstance(v, (str, bytes)))
        if held > MAX_METADATA:
            raise InputError(f"{name} holds {held} bytes of metadata, at most {MAX_METADATA} are read")
        yield image


def _bytes_of(file: IO[bytes]) -> int:
    """How many `file` has; where it is being read stays."""
    at = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(at)
    return size


@contextmanager
def _guarded(name: str) -> Iterator[None]:
    """Turns what Pillow raises into one sentence, and keeps its warnings off the terminal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except FileNotFoundError:
        fetched = "; it is read from a file, so save it to one first" if re.match("https?:/", name) else ""
        raise InputError(f"there is no picture {name}{fetched}") from None
    except Image.UnidentifiedImageError:
        raise InputError(f"{name} cannot be read as a picture; the formats are {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"{name} claims too many pixels, at most {MAX_PIXELS} are read") from None
    except DAMAGE as error:
        raise InputError(f"{name} cannot be read as a picture: {cause(error) or 'it is damaged'}") from None


@contextmanager
def _libtiff_silent(image: Image.Image) -> Iterator[None]:
    """Keeps libtiff from printing: it writes to the process's standard error by itself."""
    try:
        kept = os.dup(2) if image.format == "TIFF" else None
    except OSError:  # it is closed
        kept = None
    if kept is None:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 for none. TIFF's is applied by Pillow; PNG's behind the pixels would cost decoding them."""
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = image.getexif().get(ExifTags.Base.Orientation)
        except DAMAGE:  # the pixels may be sound all the same
            return 1
    return found if isinstance(found, int) else 1


def _layers(image: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    """(Color, alpha): the color in L, RGB, CMYK or LAB of 8 bits; alpha is None for a picture that has none."""
    if _is_wide(image):
        return Image.fromarray(_as_bytes(_numbers(image, name), _white(image))), None
    if image.mode in ("La", "RGBa"):  # multiplied by alpha
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.has_transparency_data:
        both = image.convert("RGBA")
        color = image.getchannel("L") if image.mode in ("L", "LA") else both.convert("RGB")
        return color, both.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _is_wide(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


UNSIGNED, WHITE_IS_ZERO = 1, 0  # TIFF's numbers


def _numbers(image: Image.Image, name: str) -> np.ndarray:
    """The values (H, W) of a picture with one channel of 16 or 32 bits, all finite."""
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{name} holds values that are not finite")
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I" and tags and tags.get(TiffImagePlugin.SAMPLEFORMAT, (UNSIGNED,)) == (UNSIGNED,):
        values = values.view(np.uint32)  # Pillow's own are signed
    white = _white(image)
    if white is not None and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
        values = int(white) - values  # Pillow turns those of 8 bits alone
    return values


def _white(image: Image.Image) -> float | None:
    """The value of white where the file's format says it."""
    if not image.mode.startswith("I;16"):
        return None
    bits = getattr(image, "tag_v2", {}).get(TiffImagePlugin.BITSPERSAMPLE)
    return 4095.0 if bits == (12,) else 65_535.0


def _as_bytes(values: np.ndarray, white: float | None) -> np.ndarray:
    """Brightness as uint8, by the rule at the top of this file."""
    low, high = float(values.min()), float(values.max())
    if white is None:
        whites, beyond = ((1.0, 255.0, 65_535.0), 1.1) if values.dtype.kind == "f" else ((255.0, 65_535.0), 1.0)
        white = next((w for w in whites if high <= w * beyond), None) if low >= high * (1 - beyond) else None
    low, white = (low, high) if white is None else (0.0, white)
    factor = 255 / ((white - low) or 1)
    if values.dtype == np.uint16:
        return np.rint(np.arange(65_536) * factor).clip(max=255).astype(np.uint8)[values]
    scaled = values.astype(np.float32)
    scaled *= factor
    scaled -= low * factor
    return np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)


def _gray(image: Image.Image, name: str, expected: str) -> np.ndarray:
    """The values (H, W) of a picture that is gray, whatever its mode."""
    if _is_wide(image):
        return _numbers(image, name)
    color, _ = _layers(image, name)
    if color.mode == "L":
        return np.asarray(image if image.mode == "1" else color).astype(np.int32)
    red, green, blue = np.moveaxis(np.asarray(_rgb(color)), 2, 0)
    lowest = np.minimum(np.minimum(red, green), blue)
    if (np.maximum(np.maximum(red, green), blue) - lowest).max() > COLOR_NOISE:
        raise InputError(f"{name} is a colored picture, expected is {expected}")
    return green.astype(np.int32)


COLOR_NOISE = 8  # of 255: what JPEG adds to gray
ALPHA_NOISE = 8  # of 255: what formats that lose something take from full alpha


def _rgb(color: Image.Image) -> Image.Image:
    """RGB of what `_layers` gives, as if it had no profile."""
    if color.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return ImageCms.profileToProfile(color, lab, _SRGB, outputMode="RGB") or color
    return color.convert("RGB")


def _srgb(color: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB in sRGB. Where the profile changes nothing worth mentioning the pixels stay exactly as they are."""
    if not profile:
        return _rgb(color)
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
        transform = ImageCms.buildTransform(source, _SRGB, color.mode, "RGB", intent, flags)
        if color.mode in _PROBES:
            probe = _PROBES[color.mode]
            moved = ImageCms.applyTransform(probe, transform) or probe
            change = np.asarray(moved).astype(int) - np.asarray(probe.convert("RGB")).astype(int)
            if np.abs(change).max() <= SAME:
                return color.convert("RGB")
        return ImageCms.applyTransform(color, transform) or _rgb(color)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return _rgb(color)


SAME = 3  # of 255: the rounding of a profile that is sRGB under another name
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_LEVELS = np.arange(0, 256, 17, dtype=np.uint8)
_CUBE = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(64, 64, 3)
_PROBES = {"RGB": Image.fromarray(_CUBE), "L": Image.fromarray(np.arange(256, dtype=np.uint8)[None])}
