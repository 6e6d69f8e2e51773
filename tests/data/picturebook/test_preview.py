from pathlib import Path

import numpy as np
import pytest

from darkroom.data.picturebook import render, sample_scene
from darkroom.data.picturebook.preview import contact_sheet, picture_format
from darkroom.errors import InputError


def test_the_scenes_are_on_the_sheet() -> None:
    sheet = np.asarray(contact_sheet(3, 96, 64, seed=4, maps=False))
    for i in range(3):
        scene = sample_scene(np.random.default_rng((4, i)), 96 / 64, split="any")
        picture = render(scene, 96, 64)
        left = 8 + i * 104
        assert np.array_equal(sheet[8:72, left : left + 96], picture)
        caption = sheet[72:, left : left + 96]
        assert (caption.sum(axis=2) < 300).sum() > 40  # dark strokes of writing


def test_maps_stand_beside_their_picture() -> None:
    sheet = contact_sheet(2, 128, 128, seed=0, maps=True)
    plain = contact_sheet(1, 128, 128, seed=0, maps=False)
    assert sheet.width == 5 * 136 + 8
    pixels = np.asarray(sheet)
    head = next(y for y in range(60) if np.array_equal(pixels[y, 8:136], np.asarray(plain)[8, 8:136]))
    tiles = [pixels[head : head + 128, 8 + 136 * k : 136 + 136 * k] for k in range(5)]
    boxed = (tiles[0] != tiles[1]).any(axis=2)
    assert 0.01 < boxed.mean() < 0.3
    assert (tiles[1][boxed] == (226, 60, 60)).all(axis=1).mean() > 0.4
    assert (tiles[4] == tiles[4][..., :1]).all()  # depth is grey
    things = (tiles[2] != tiles[2][0, 0]).any(axis=2)
    scene = sample_scene(np.random.default_rng((0, 0)), split="any")
    kinds = {thing.kind for thing in scene.things}
    assert len(np.unique(tiles[3][things], axis=0)) == len(kinds)  # a colour a class


def test_sheets_repeat() -> None:
    a, b, c = (contact_sheet(4, 48, 48, seed, maps=True).tobytes() for seed in (1, 1, 2))
    assert a == b != c


def test_rows_are_evenly_filled() -> None:
    seven = contact_sheet(7, 256, 32, seed=0, maps=False)
    assert seven.width == 4 * 264 + 8  # five would fit, but leave two in the second row


@pytest.mark.parametrize(("width", "height"), [(256, 16), (16, 256), (8, 8)])
def test_any_shape(width: int, height: int) -> None:
    sheet = contact_sheet(3, width, height, seed=1, maps=True)
    assert sheet.height > height


@pytest.mark.parametrize(
    ("count", "size", "seed", "message"),
    [
        (1, 4, 0, "4x4 cannot be painted"),
        (1, 32, -1, "the seed is -1, expected is 0 or more"),
        (10**9, 64, 0, "a sheet of 1000000000 scenes of 64x64 is too large"),
    ],
)
def test_what_cannot_be_drawn(count: int, size: int, seed: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        contact_sheet(count, size, size, seed, maps=True)


def test_the_ending_says_the_format() -> None:
    assert [picture_format(Path(p)) for p in ("a.png", "a.JPG", "a.webp", "sheet")] == ["PNG", "JPEG", "WEBP", "PNG"]
    with pytest.raises(InputError, match=r"a.gif ends in '.gif', a picture ends in .png"):
        picture_format(Path("a.gif"))
