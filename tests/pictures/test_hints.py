"""Hints against plain definitions, a pixel at a time."""

import numpy as np
import pytest

from darkroom.errors import InputError
from darkroom.pictures.hints import HINTS, blurred, canny, depth_hint, lineart, tile

NOISE = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def smooth(height: int = 40, width: int = 48) -> np.ndarray:
    """Soft blobs, so that there are edges of every direction and strength."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(1)
    image = np.zeros((height, width, 3))
    for _ in range(12):
        cy, cx, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(2, 9)
        image += rng.uniform(-255, 255, 3) / (1 + np.exp(np.hypot(y - cy, x - cx) - size))[..., None]
    return np.clip(image + 128, 0, 255).astype(np.uint8)


def plain_canny(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Canny's edges as OpenCV's documentation and source define them, without a trick."""
    height, width = pixels.shape[:2]
    p = pixels.astype(int)

    def at(y: int, x: int, c: int) -> int:
        return p[min(max(y, 0), height - 1), min(max(x, 0), width - 1), c]

    gradient = np.zeros((height, width, 2), int)
    for y in range(height):
        for x in range(width):
            best = -1
            for c in range(3):
                dx = sum(w * (at(y + i, x + 1, c) - at(y + i, x - 1, c)) for i, w in ((-1, 1), (0, 2), (1, 1)))
                dy = sum(w * (at(y + 1, x + i, c) - at(y - 1, x + i, c)) for i, w in ((-1, 1), (0, 2), (1, 1)))
                if abs(dx) + abs(dy) > best:
                    best, gradient[y, x] = abs(dx) + abs(dy), (dx, dy)
    strength = np.pad(np.abs(gradient).sum(axis=2), 1)
    state = np.zeros((height, width), int)  # 1: weak, 2: strong
    for y in range(height):
        for x in range(width):
            dx, dy = gradient[y, x]
            m = strength[y + 1, x + 1]
            angle = np.degrees(np.arctan2(abs(dy), abs(dx)))
            if angle < 22.5:
                kept = m > strength[y + 1, x] and m >= strength[y + 1, x + 2]
            elif angle > 67.5:
                kept = m > strength[y, x + 1] and m >= strength[y + 2, x + 1]
            else:
                s = -1 if (dx < 0) != (dy < 0) else 1
                kept = m > strength[y, x + 1 - s] and m > strength[y + 2, x + 1 + s]
            if kept and m > low:
                state[y, x] = 2 if m > high else 1
    for _ in range(height * width):
        grown = np.pad(state == 2, 1)
        near = sum(grown[i : i + height, j : j + width] for i in range(3) for j in range(3)) > 0
        following = np.where((state == 1) & near, 2, state)
        if (following == state).all():
            break
        state = following
    return (state == 2) * 255


@pytest.mark.parametrize(
    "image", [NOISE, smooth(), smooth()[:1], smooth()[:, :1]], ids=["noise", "blobs", "row", "column"]
)
@pytest.mark.parametrize("ends", [(100, 200), (0, 50), (300, 900)])
def test_canny(image: np.ndarray, ends: tuple[float, float]) -> None:
    found = canny(image, *ends)
    assert found.dtype == np.uint8
    assert np.array_equal(found, plain_canny(image, *ends)[..., None].repeat(3, 2))


def test_a_step_is_an_edge_of_one_pixel() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = 255
    assert (canny(image)[..., 0] > 0).sum(axis=1).tolist() == [1] * 16
    assert not canny(np.full((8, 8, 3), 77, np.uint8)).any()


def plain_gaussian(pixels: np.ndarray, deviation: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    reach = round(4 * deviation)

    def mirrored(i: int, length: int) -> int:
        while not 0 <= i < length:
            i = -i if i < 0 else 2 * (length - 1) - i
        return i

    result = np.zeros(pixels.shape)
    for y in range(height):
        for x in range(width):
            total = 0.0
            for i in range(-reach, reach + 1):
                for j in range(-reach, reach + 1):
                    share = np.exp(-(i * i + j * j) / (2 * deviation**2))
                    total += share
                    result[y, x] += share * pixels[mirrored(y + i, height), mirrored(x + j, width)].astype(float)
            result[y, x] /= total
    return result


def test_blur_is_a_gaussian() -> None:
    small = NOISE[:7, :9]
    assert np.abs(blurred(small, 1.5) - plain_gaussian(small, 1.5)).max() <= 0.51
    assert np.array_equal(blurred(np.full((5, 1, 3), 9, np.uint8), 3.0), np.full((5, 1, 3), 9, np.uint8))
    with pytest.raises(InputError, match="the deviation of the blur is 0"):
        blurred(small, 0)


def test_lines_are_where_it_is_darker_than_around() -> None:
    small = NOISE[:7, :9]
    darker = (plain_gaussian(small, 1.5) - small).min(axis=2).clip(0, 255)
    scale = max(16, np.median(darker[darker > 8]))
    assert np.abs(lineart(small, 1.5)[..., 0] - (darker / scale * 127).clip(0, 255)).max() < 0.52
    page = np.full((32, 32, 3), 240, np.uint8)
    page[10:12] = 20
    drawn = lineart(page)[..., 0]
    assert drawn[10:12].min() > 100
    assert drawn[:8].max() < 10
    assert not lineart(np.full((8, 8, 3), 200, np.uint8)).any()


def test_tiles_keep_averages() -> None:
    squares = np.random.default_rng(2).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    image = squares.repeat(8, axis=0).repeat(8, axis=1)
    found = tile(image, 8)
    assert found.shape == image.shape
    centers = np.abs(found[4::8, 4::8].astype(int) - squares)
    assert np.median(centers) <= 8
    assert np.array_equal(tile(image, 1), image)
    assert tile(NOISE, 7).shape == NOISE.shape
    with pytest.raises(InputError, match="squares of 21 pixels: expected is 1 to 20"):
        tile(NOISE, 21)


def test_depth_is_bright_where_it_is_near() -> None:
    disparity = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert depth_hint(disparity)[..., 0].tolist() == [[0, 64], [128, 255]]
    distance = np.array([[1.0, 2.0], [4.0, 4.0]])
    assert depth_hint(distance, near="small")[..., 0].tolist() == [[255, 85], [0, 0]]
    assert depth_hint(np.arange(65_536).reshape(256, 256))[..., 0].max() == 255
    assert not depth_hint(np.full((2, 2), 7)).any()
    outlier = np.r_[np.linspace(0, 1, 99), 1e6].reshape(10, 10)
    assert depth_hint(outlier, ends=(0, 98))[9, 7, 0] > 240
    for bad, message in (
        ([[np.nan]], "finite numbers"),
        ([1.0], "shape"),
    ):
        with pytest.raises(InputError, match=message):
            depth_hint(np.array(bad))
    with pytest.raises(InputError, match="a distance of the depth map is 0"):
        depth_hint(np.zeros((2, 2)), near="small")
    with pytest.raises(InputError, match="near places are 'far'"):
        depth_hint(disparity, near="far")


@pytest.mark.parametrize("name", list(HINTS))
def test_every_hint_is_a_picture_of_the_same_size(name: str) -> None:
    for pixels in (NOISE, smooth(9, 17)):
        found = HINTS[name](pixels)
        assert (found.shape, found.dtype) == (pixels.shape, np.uint8)
    assert HINTS["lineart_standard"] is lineart
