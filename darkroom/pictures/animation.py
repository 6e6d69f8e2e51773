"""Frames as one file that plays: WebP, GIF or PNG, with the request inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from darkroom.errors import InputError
from darkroom.pictures.picture_file import check_size, metadata
from darkroom.whole_file import whole_file

__all__ = ["ANIMATIONS", "write_animation"]

ANIMATIONS = {"webp": "WEBP", "gif": "GIF", "png": "PNG"}
SLOWEST, FASTEST = 0.02, 50.0  # frames a second; players slow down what is faster


def write_animation(path: Path, frames: Sequence[np.ndarray], parameters: str, rate: float) -> None:
    """Write `frames`, uint8 (H, W, 3) of one size, to `path`, in place of what is there, whole or not at all.

    The format is that of the ending: .webp (lossless), .gif (256 colors a frame, dithered) or .png. It plays for ever,
    `rate` frames a second (GIF counts in hundredths of a second). `parameters`: PNG and WebP hold them as pictures do,
    GIF as its comment. `InputError` for what cannot be written.
    """
    form = ANIMATIONS.get(path.suffix.lower().removeprefix("."))
    if form is None:
        raise InputError(f"unknown format {path.suffix!r} of {path}; those that move are: {', '.join(ANIMATIONS)}")
    sizes = {frame.shape for frame in frames}
    if len(sizes) != 1:
        raise InputError(f"{len(frames)} frames of {len(sizes)} sizes make no animation, expected are some of one size")
    if not SLOWEST <= rate <= FASTEST:
        raise InputError(f"{rate} frames a second: expected is {SLOWEST} to {FASTEST:g}")
    images = [Image.fromarray(frame) for frame in frames]
    check_size(path, form, images[0].size)
    options = metadata(path, form, parameters)
    if form == "GIF":
        images = [image.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG) for image in images]
    if form == "WEBP":
        options["lossless"] = True
    duration = round(1000 / rate)
    with whole_file(path) as file:
        images[0].save(file, form, save_all=True, append_images=images[1:], duration=duration, loop=0, **options)
