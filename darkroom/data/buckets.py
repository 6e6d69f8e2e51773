"""Sizes that pictures of any shape are brought to, and how: scaled to cover the size, the rest cut away.

Buckets after "the NovelAI method", SDXL's own list (arXiv:2307.01952, appendix I).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from darkroom.data.dataset import Dataset, Joined
from darkroom.errors import InputError, require
from darkroom.types import Sample, Size

__all__ = ["SDXL_SIZES", "BucketConfig", "Bucketing", "Buckets", "bucketings", "fill_buckets"]

# Height: widths. Every side is a multiple of 64 and no area is above 1024².
_SDXL = {
    512: (2048, 1984, 1920, 1856), 576: (1792, 1728, 1664), 640: (1600, 1536), 704: (1472, 1408, 1344),
    768: (1344, 1280), 832: (1216, 1152), 896: (1152, 1088), 960: (1088, 1024), 1024: (1024, 960), 1088: (960, 896),
    1152: (896, 832), 1216: (832,), 1280: (768,), 1344: (768,), 1408: (704,), 1472: (704,), 1536: (640,),
    1600: (640,), 1664: (576,), 1728: (576,), 1792: (576,), 1856: (512,), 1920: (512,), 1984: (512,), 2048: (512,),
}  # fmt: skip
SDXL_SIZES: tuple[Size, ...] = tuple(Size(h, w) for h, widths in _SDXL.items() for w in widths)


@dataclass(frozen=True)
class BucketConfig:
    """`resolution` is the side of the square that has the area of all buckets.

    "square": every picture becomes this square. "aspect": sides are multiples of `step` with at most its area, between
    `shortest` and `longest`. "sdxl": the 40 sizes of SDXL around 1024 × 1024, scaled to `resolution`.
    """

    resolution: int
    shapes: Literal["square", "aspect", "sdxl"] = "square"
    step: int = 64  # pixels
    shortest: int | None = None  # side in pixels; half of `resolution` when not given
    longest: int | None = None  # twice `resolution` when not given
    upscale: bool = True  # false: a picture below the area keeps its size, rounded down to `step`
    crop: Literal["center", "random"] = "center"
    flip: bool = False  # mirror half of the samples left to right

    def __post_init__(self) -> None:
        require(1 <= self.step <= 1024, "step", self.step, "1 to 1024")
        require(8 <= self.resolution <= 8192, "resolution", self.resolution, "8 to 8192")
        fits = self.resolution % self.step == 0
        require(fits, "resolution", self.resolution, f"a multiple of step, which is {self.step}")
        if self.shapes == "aspect":
            low, high = self.sides
            require(self.step <= low <= self.resolution, "shortest", low, f"{self.step} to {self.resolution}")
            require(self.resolution <= high <= 32768, "longest", high, f"{self.resolution} to 32768")
        if self.shapes == "sdxl":
            exact = self.resolution * 64 % (1024 * self.step) == 0
            require(exact, "resolution", self.resolution, f"a multiple of {16 * self.step} for SDXL's sizes")

    @property
    def sides(self) -> tuple[int, int]:
        """The shortest and the longest side that a bucket may have."""
        low = self.resolution // 2 if self.shortest is None else self.shortest
        return max(low, self.step), 2 * self.resolution if self.longest is None else self.longest


Buckets = BucketConfig | Sequence[BucketConfig] | None  # of all pictures; of each part of a `Joined`; their own sizes


class Bucketing:
    """Finds the size for a picture and brings the picture to it."""

    def __init__(self, config: BucketConfig) -> None:
        self.config = config
        self.sizes = _sizes(config)
        self._ratios = np.log([s.width / s.height for s in self.sizes])

    def size(self, picture: Size) -> Size:
        """The bucket with the nearest ratio of sides; logarithms treat portrait and landscape alike."""
        nearest = np.abs(self._ratios - math.log(picture.width / picture.height)).argmin()
        bucket = self.sizes[int(nearest)]
        if self.config.upscale or (picture.height >= bucket.height and picture.width >= bucket.width):
            return bucket
        return Size(self._own(picture.height, bucket.height), self._own(picture.width, bucket.width))

    def _own(self, side: int, bucket: int) -> int:
        """The picture's own side as far as steps go, at most the bucket's."""
        return max(min(side, bucket) // self.config.step, 1) * self.config.step

    def fit(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        """`sample` scaled to cover `size` and cut to it; what was done stands in the result."""
        top_share, left_share = rng.random(2) if self.config.crop == "random" else (0.5, 0.5)
        flip = bool(self.config.flip and rng.random() < 0.5)
        return cover(sample, size, (float(top_share), float(left_share)), flip)


def cover(sample: Sample, size: Size, crop: tuple[float, float] = (0.5, 0.5), flip: bool = False) -> Sample:
    """`sample` scaled to cover `size`, what stands out cut away at `crop` (shares from top and left), then mirrored.

    Maps among the conditions go with the picture by nearest neighbors, boxes by arithmetic.
    """
    height, width = sample.original_size.height, sample.original_size.width
    scale = max(size.height / height, size.width / width)
    scaled = Size(max(size.height, round(height * scale)), max(size.width, round(width * scale)))
    top = round(crop[0] * (scaled.height - size.height))
    left = round(crop[1] * (scaled.width - size.width))

    def cut(array: np.ndarray, how: Image.Resampling) -> np.ndarray:
        if (height, width) != (scaled.height, scaled.width):
            array = _resized(array, scaled, how)
        array = array[top : top + size.height, left : left + size.width]
        return np.ascontiguousarray(array[:, ::-1] if flip else array)

    def moved(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.shape[:2] == (height, width):
            return cut(value, Image.Resampling.NEAREST)
        return value

    how = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return replace(
        sample,
        image=None if sample.image is None else cut(sample.image, how),
        conditions={
            key: _moved_boxes(value, scaled, size, (top, left), flip) if key == "boxes" else moved(value)
            for key, value in sample.conditions.items()
        },
        loss_mask=None if sample.loss_mask is None else cut(sample.loss_mask, Image.Resampling.NEAREST),
        crop=(top, left),
        target_size=size,
        flipped=sample.flipped != flip,
    )


def _resized(array: np.ndarray, size: Size, how: Image.Resampling) -> np.ndarray:
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return np.asarray(Image.fromarray(array).resize((size.width, size.height), how))
    # Nearest neighbors of any type of numbers, centers as Pillow has them.
    rows = ((np.arange(size.height) + 0.5) * array.shape[0] / size.height).astype(int)
    columns = ((np.arange(size.width) + 0.5) * array.shape[1] / size.width).astype(int)
    return array[rows][:, columns]


Boxes = tuple[tuple[int, float, float, float, float, bool], ...]


def _moved_boxes(boxes: Boxes, scaled: Size, size: Size, corner: tuple[int, int], flip: bool) -> Boxes:
    """Boxes (class, x0, y0, x1, y1, group), shares of the picture, as shares of the part that is kept; those outside
    go."""
    top, left = corner
    found = []
    for label, *corners, in_group in boxes:
        x0, x1 = (min(max((x * scaled.width - left) / size.width, 0.0), 1.0) for x in corners[::2])
        y0, y1 = (min(max((y * scaled.height - top) / size.height, 0.0), 1.0) for y in corners[1::2])
        if flip:
            x0, x1 = 1 - x1, 1 - x0
        if x0 < x1 and y0 < y1:
            found.append((label, x0, y0, x1, y1, in_group))
    return tuple(found)


def bucketings(dataset: Dataset, buckets: Buckets) -> Callable[[int], Bucketing | None]:
    """What brings the picture of a number to its size; None: it keeps its own."""
    if buckets is None or isinstance(buckets, BucketConfig):
        one = None if buckets is None else Bucketing(buckets)
        return lambda index: one
    if not isinstance(dataset, Joined) or len(dataset.parts) != len(buckets):
        raise InputError(
            f"the {len(buckets)} subsets of the data differ in their sizes: nothing else can be joined to them"
        )
    each = [Bucketing(config) for config in buckets]
    return lambda index: each[dataset.part(index)]


def fill_buckets(
    dataset: Dataset, bucketing: Callable[[int], Bucketing | None]
) -> tuple[Mapping[Size, list[int]], Mapping[str, InputError]]:
    """The numbers of the samples that go to each size, and what is wrong with pictures whose size cannot be read."""
    found: dict[Size, list[int]] = {}
    known: dict[tuple[Bucketing, Size], Size] = {}  # most data sets have few sizes
    unreadable: dict[str, InputError] = {}
    for index in range(len(dataset)):
        try:
            size = dataset.size(index)
        except InputError as error:
            unreadable[dataset.name(index)] = error
            continue
        if (own := bucketing(index)) is not None:
            if (own, size) not in known:
                known[own, size] = own.size(size)
            size = known[own, size]
        found.setdefault(size, []).append(index)
    return found, unreadable


def _sizes(config: BucketConfig) -> list[Size]:
    if config.shapes == "square":
        return [Size(config.resolution, config.resolution)]
    if config.shapes == "sdxl":
        share = config.resolution / 1024
        return sorted({Size(round(s.height * share), round(s.width * share)) for s in SDXL_SIZES})
    low, high = config.sides
    area, step = config.resolution**2, config.step
    found = {Size(config.resolution, config.resolution)}
    for width in range(-(-low // step) * step, high + 1, step):
        height = min(area // width, high) // step * step
        if height >= low:
            found |= {Size(height, width), Size(width, height)}
    return sorted(found)
