import numpy as np
import pytest
import skia

from darkroom.data.picturebook.colours import COLOURS, vary
from darkroom.data.picturebook.kind import Look
from darkroom.data.picturebook.things import KINDS


def paint(kind: str, colour: str, seed: int, size: int, margin: int = 0) -> np.ndarray:
    """RGBA of one thing, `size` high and of its usual shape, within a transparent frame."""
    rng = np.random.default_rng(seed)
    width = round(size * sum(KINDS[kind].aspect) / 2)
    surface = skia.Surface(width + 2 * margin, size + 2 * margin)
    canvas = surface.getCanvas()
    canvas.translate(margin, margin)
    parts = dict.fromkeys(KINDS[kind].parts, COLOURS["grey"])
    KINDS[kind].draw(canvas, width, size, Look(vary(COLOURS[colour], rng), parts, 0.01 * size, rng))
    return surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)


def test_there_are_enough_kinds_and_colours() -> None:
    assert len(KINDS) >= 24
    assert len(COLOURS) >= 10


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_thing_keeps_to_its_box_and_fills_it(kind: str) -> None:
    frame = 16
    alpha = paint(kind, "red", 1, 128, frame)[..., 3] > 127
    inside = alpha[frame:-frame, frame:-frame]
    assert inside.sum() > 0.12 * inside.size
    outside = alpha.sum() - inside.sum()
    assert outside < 0.03 * alpha.sum()


@pytest.mark.parametrize("kind", list(KINDS))
def test_no_two_are_alike_yet_each_is_repeatable(kind: str) -> None:
    first, again, other = (paint(kind, "blue", seed, 96) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert (first != other).mean() > 0.02


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("colour", ["red", "yellow", "green", "blue", "purple"])
def test_its_colour_is_its_commonest_bright_one(kind: str, colour: str) -> None:
    pixels = paint(kind, colour, 5, 64)
    rgb = pixels[pixels[..., 3] > 200][:, :3] / 255
    names = list(COLOURS)
    palette = np.array([COLOURS[n] for n in names])
    nearest = np.bincount(np.square(rgb[:, None] - palette).sum(-1).argmin(1), minlength=len(names))
    bright = [i for i, n in enumerate(names) if n not in ("black", "white", "grey", "brown")]
    assert names[max(bright, key=lambda i: nearest[i])] == colour


@pytest.mark.parametrize("kind", list(KINDS))
def test_any_size(kind: str) -> None:
    for size in (8, 512):
        assert (paint(kind, "orange", 2, size)[..., 3] > 127).mean() > 0.1
