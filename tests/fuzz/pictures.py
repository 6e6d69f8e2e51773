"""Damaged and hostile picture files: sound ones of every kind, cut, spliced and with bytes changed."""

from __future__ import annotations

import struct
import zlib
from functools import cache
from io import BytesIO
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from darkroom.errors import InputError
from darkroom.pictures.reading import read_classes, read_depth, read_mask, read_pixels, read_size

__all__ = ["damaged_picture", "readers_hold", "sound_pictures"]

PNG = b"\x89PNG\r\n\x1a\n"
READERS = (read_pixels, read_mask, read_classes, read_depth, read_size)
PARAMETERS = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64"


@cache
def sound_pictures() -> tuple[bytes, ...]:
    """Small files of every format and mode, with texts, EXIF and color profiles."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (24, 20, 3), dtype=np.uint8))
    rgba = Image.fromarray(rng.integers(0, 256, (24, 20, 4), dtype=np.uint8))
    gray, palette = rgb.convert("L"), rgb.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    wide = Image.fromarray(rng.integers(0, 65_536, (24, 20), dtype=np.uint16))
    bits, lab = gray.convert("1"), Image.new("LAB", (20, 24), (100, 120, 140))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "hello"
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + PARAMETERS.encode("utf-16-be")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    info = PngInfo()
    info.add_text("parameters", PARAMETERS)
    info.add_itxt("note", "x" * 50, zip=True)
    files: list[bytes] = []

    def add(image: Image.Image, form: str, **options: Any) -> None:
        file = BytesIO()
        image.save(file, form, **options)
        files.append(file.getvalue())

    for image in (rgb, rgba, gray, palette, bits, gray.convert("LA"), wide):
        add(image, "PNG", pnginfo=info, exif=exif, icc_profile=profile)
    add(palette, "PNG", transparency=bytes(range(16)))
    add(gray, "PNG", transparency=7)
    add(rgb, "PNG", transparency=(1, 2, 3))
    for image in (rgb, gray, rgb.convert("CMYK")):
        add(image, "JPEG", exif=exif, icc_profile=profile)
    for image in (rgb, rgba):
        add(image, "WEBP", exif=exif, icc_profile=profile)
        add(image, "AVIF", exif=exif)
    for image in (rgb, palette, bits):
        add(image, "GIF", comment=PARAMETERS.encode())
        add(image, "BMP")
    add(palette, "GIF", save_all=True, append_images=[palette, palette], transparency=3)
    for image in (rgb, rgba, gray, palette, bits, rgb.convert("CMYK"), lab, gray.convert("F"), gray.convert("I"), wide):
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            add(image, "TIFF", compression=compression, exif=exif, icc_profile=profile)
    return tuple(files)


def damaged_picture(rng: Random) -> bytes:
    """One of the sound files with something wrong in it; PNG's sums are mended, so that its readers go on."""
    data = bytearray(rng.choice(sound_pictures()))
    what = rng.random()
    place = rng.randrange(len(data))
    if what < 0.15:
        del data[place:]
    elif what < 0.25:
        data[place:place] = rng.randbytes(rng.randrange(1, 9))
    elif what < 0.35:
        other = rng.choice(sound_pictures())
        data[place:] = other[rng.randrange(len(other)) :]
    else:
        within = len(data) if rng.random() < 0.5 else min(len(data), 200)  # headers decide most
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            place = rng.randrange(within)
            data[place] = rng.choice((0, 1, 128, 255, rng.randrange(256), data[place] ^ (1 << rng.randrange(8))))
    return _mended(bytes(data)) if rng.random() < 0.7 else bytes(data)


def _mended(data: bytes) -> bytes:
    """PNG with the sums of its chunks set right; other files as they are."""
    if not data.startswith(PNG):
        return data
    chunks, place = [PNG], len(PNG)
    while place + 12 <= len(data):
        length = struct.unpack_from(">I", data, place)[0]
        body = data[place + 4 : place + 8 + length]
        chunks += [data[place : place + 4], body, struct.pack(">I", zlib.crc32(body))]
        place += 12 + length
    return b"".join(chunks)


def readers_hold(data: bytes) -> None:
    """Every reader of pictures gives an array or an `InputError` of one line."""
    for read in READERS:
        try:
            read(BytesIO(data), "x")
        except InputError as error:
            assert str(error).isprintable(), str(error)  # noqa: PT017 - nothing else may be raised
