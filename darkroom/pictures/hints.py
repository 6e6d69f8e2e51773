"""Hints for control networks that a picture gives without a network: edges, lines, tiles, gray depth.

Every function takes pixels uint8 (H, W, 3) and returns a hint uint8 (H, W, 3), as the networks are trained to read it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from darkroom.errors import InputError
from darkroom.registry import Registry
from darkroom.types import Size

__all__ = ["HINTS", "blurred", "canny", "depth_hint", "fitted_hint", "lineart", "tile"]

Hint = Callable[[np.ndarray], np.ndarray]
HINTS: Registry[Hint] = Registry("hint")

FEW_COLORS = 200  # of pictures that are resized without new ones

# The four directions of a gradient, each as the step (y, x) to a neighbor along it.
_ACROSS = ((0, 1), (1, 1), (1, 0), (1, -1))
_FLAT, _STEEP = np.tan(np.pi / 8), np.tan(3 * np.pi / 8)


def fitted_hint(pixels: np.ndarray, size: Size) -> np.ndarray:
    """The picture scaled to cover `size`, its middle cut out: "Crop and Resize" of A1111's ControlNet.

    As there, pictures of few colors (masks, poses, maps of classes) keep these: each pixel is the nearest one.
    """
    height, width = pixels.shape[:2]
    if (height, width) == (size.height, size.width):
        return pixels
    scale = max(size.height / height, size.width / width)
    sides = (max(size.width, round(width * scale)), max(size.height, round(height * scale)))
    image = Image.fromarray(pixels)
    few = image.getcolors(FEW_COLORS) is not None
    image = image.resize(sides, Image.Resampling.NEAREST if few else Image.Resampling.LANCZOS)
    left, top = (sides[0] - size.width) // 2, (sides[1] - size.height) // 2
    return np.array(image.crop((left, top, left + size.width, top + size.height)))


def canny(pixels: np.ndarray, low: float = 100, high: float = 200) -> np.ndarray:
    """White edges of one pixel's width on black (Canny 1986), as OpenCV finds them.

    Sobel's gradient of the channel in which |dx| + |dy| is largest; maxima along it above `low` count if they hang
    together with one above `high`. At the thresholds of 100 and 200 control networks were trained.
    """
    if not 0 <= low <= high:
        raise InputError(f"edges between {low} and {high}: expected are two rising numbers from 0 on")
    dx, dy = _sobel(pixels)
    strength = np.abs(dx) + np.abs(dy)
    best = strength.argmax(axis=2)[..., None]
    dx, dy, strength = (np.take_along_axis(a, best, axis=2)[..., 0] for a in (dx, dy, strength))
    peaks = _peaks(dx, dy, strength) & (strength > low)
    return _gray(np.where(_connected(peaks, strength > high), 255, 0))


def _sobel(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(dx, dy) int32 (H, W, C); the border's pixels are repeated."""
    p = np.pad(pixels.astype(np.int32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = p[:-2] + 2 * p[1:-1] + p[2:]  # smoothed down the columns
    columns = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    return rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]


def _peaks(dx: np.ndarray, dy: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Where no neighbor along the gradient is stronger; of two equal ones the second gives way."""
    height, width = strength.shape
    around = np.pad(strength, 1)
    x, y = np.abs(dx), np.abs(dy)
    falls = (dx < 0) != (dy < 0)
    direction = np.select([y < _FLAT * x, y > _STEEP * x, falls], [0, 2, 3], 1)
    result = np.zeros(strength.shape, bool)
    for number, (down, right) in enumerate(_ACROSS):
        before = around[1 - down : 1 - down + height, 1 - right : 1 - right + width]
        behind = around[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        straight = number in (0, 2)
        first = strength > before
        second = strength >= behind if straight else strength > behind
        result |= (direction == number) & first & second
    return result


def _connected(weak: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """The parts of `weak`, by their eight neighbors, in which a place is `strong`."""
    left = np.pad(weak, 1)
    stack = list(zip(*np.nonzero(weak & strong)))
    found = np.zeros_like(weak)
    for y, x in stack:
        found[y, x], left[y + 1, x + 1] = True, False
    while stack:
        y, x = stack.pop()
        for down, right in zip(*np.nonzero(left[y : y + 3, x : x + 3])):
            near = (y + down - 1, x + right - 1)
            found[near], left[y + down, x + right] = True, False
            stack.append(near)
    return found


def lineart(pixels: np.ndarray, deviation: float = 6.0, floor: float = 8.0) -> np.ndarray:
    """Bright lines where the picture is darker than its surroundings: the rule of A1111's "lineart standard".

    How much each pixel falls below its Gaussian surroundings, least over the channels, scaled so that the median of
    what exceeds `floor` (at least 16) becomes 127.
    """
    darker = (_gaussian(pixels, deviation) - pixels).min(axis=2).clip(0, 255)
    marked = darker[darker > floor]
    scale = max(16.0, float(np.median(marked)) if marked.size else 0.0)
    return _gray((darker / scale * 127).clip(0, 255))


def blurred(pixels: np.ndarray, deviation: float = 9.0) -> np.ndarray:
    """The picture through a Gaussian of `deviation` pixels."""
    return np.rint(_gaussian(pixels, deviation)).clip(0, 255).astype(np.uint8)


def tile(pixels: np.ndarray, factor: int = 8) -> np.ndarray:
    """The picture with its detail gone: each square of `factor` pixels averaged, enlarged again by Lanczos."""
    if not 1 <= factor <= min(pixels.shape[:2]):
        raise InputError(f"squares of {factor} pixels: expected is 1 to {min(pixels.shape[:2])}")
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize((-(-width // factor), -(-height // factor)), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.LANCZOS))


def depth_hint(values: np.ndarray, *, near: str = "large", ends: tuple[float, float] = (0, 100)) -> np.ndarray:
    """Depth (H, W) of any units as gray from 0, far, to 255, near.

    `near`: whether near places have "large" values, as disparity has, or "small" ones, as distances, whose inverses
    are taken. `ends`: the percentiles that become black and white; a flat map becomes black.
    """
    if near not in ("large", "small"):
        raise InputError(f"near places are {near!r}, expected is large or small")
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(f"a depth map has shape {list(values.shape)}, expected are finite numbers (H, W)")
    if near == "small":
        if values.min() <= 0:
            raise InputError(f"a distance of the depth map is {values.min():g}, expected are numbers above 0")
        values = 1 / values
    low, high = np.percentile(values, ends)
    return _gray(((values - low) / ((high - low) or 1) * 255).clip(0, 255))


def _gaussian(pixels: np.ndarray, deviation: float) -> np.ndarray:
    """float32 (H, W, C) through a Gaussian cut at four deviations; pixels are mirrored at the border's middle."""
    if not 0 < deviation <= 200:
        raise InputError(f"the deviation of the blur is {deviation}, expected is above 0, at most 200")
    reach = max(1, round(4 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    blurred = pixels.astype(np.float32)
    for axis in (0, 1):
        length = blurred.shape[axis]
        places = _mirrored(np.arange(-reach, length + reach), length)
        padded = np.take(blurred, places, axis)
        blurred = np.zeros_like(blurred)
        for i, share in enumerate(kernel):
            blurred += share * np.take(padded, np.arange(i, i + length), axis)
    return blurred


def _mirrored(places: np.ndarray, length: int) -> np.ndarray:
    """Places within 0 … length − 1: 1, 0, 1 … at the start, however far they reach."""
    if length == 1:
        return np.zeros_like(places)
    period = 2 * (length - 1)
    folded = np.abs(places) % period
    return np.minimum(folded, period - folded)


def _gray(values: np.ndarray) -> np.ndarray:
    return np.rint(values).astype(np.uint8)[..., None].repeat(3, axis=2)


HINTS.add("canny", canny)
HINTS.add("lineart", lineart, "lineart_standard")
HINTS.add("blur", blurred, "blur_gaussian")
HINTS.add("tile", tile, "tile_resample")
