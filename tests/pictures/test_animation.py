"""Frames as one file that plays."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from darkroom.errors import InputError
from darkroom.pictures.animation import write_animation
from darkroom.pictures.reading import read_pixels
from darkroom.requests.records import read_picture

FRAMES = [np.full((8, 12, 3), (60 * i, 20, 200 - 60 * i), np.uint8) for i in range(4)]
TEXT = "ein Häuschen, 猫\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x96"


@pytest.mark.parametrize("ending", ["webp", "gif", "png"])
def test_frames_play_for_their_time_and_say_how_they_were_made(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_text("replaced")
    write_animation(path, FRAMES, TEXT, 12.5)
    with Image.open(path) as image:
        assert image.n_frames == 4  # type: ignore[attr-defined]
        assert image.info["loop"] == 0
        read = [(np.array(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    assert [round(duration) for _, duration in read] == [80] * 4
    for (pixels, _), frame in zip(read, FRAMES):
        assert np.array_equal(pixels, frame)
    assert read_picture(path).request.prompt == "ein Häuschen, 猫"
    assert read_picture(path).request.seed == 5
    assert np.array_equal(read_pixels(path), FRAMES[0])
    assert list(tmp_path.iterdir()) == [path]


def test_gifs_keep_gradients(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(16, axis=0)
    write_animation(tmp_path / "a.gif", [ramp, 255 - ramp], "", 10)
    assert np.abs(read_pixels(tmp_path / "a.gif").astype(int) - ramp).mean() < 2


@pytest.mark.parametrize(
    ("name", "frames", "rate", "message"),
    [
        ("a.jpg", FRAMES, 10, r"unknown format '.jpg' of .*; those that move are: webp, gif, png"),
        ("a.gif", [], 10, "0 frames of 0 sizes make no animation"),
        ("a.gif", [FRAMES[0], FRAMES[0][:4]], 10, "2 frames of 2 sizes make no animation, expected are some of one"),
        ("a.gif", FRAMES, 100, "100 frames a second: expected is 0.02 to 50"),
        ("a.gif", FRAMES, float("nan"), "nan frames a second"),
        ("a.webp", [np.zeros((1, 16_384, 3), np.uint8)], 10, "cannot hold 16384x1 pixels"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, frames: list[np.ndarray], rate: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_animation(tmp_path / name, frames, TEXT, rate)
    assert list(tmp_path.iterdir()) == []
