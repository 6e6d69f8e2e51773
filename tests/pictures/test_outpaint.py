import numpy as np
import pytest

from darkroom.errors import InputError
from darkroom.pictures.outpaint import extended

IMAGE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def test_the_canvas_goes_on_with_the_border_and_the_mask_marks_what_is_new() -> None:
    canvas, mask = extended(IMAGE, left=1, top=2, right=0, bottom=1)
    assert canvas.shape == (5, 4, 3)
    assert mask.shape == (5, 4)
    assert np.array_equal(canvas[2:4, 1:], IMAGE)
    assert mask[2:4, 1:].sum() == 0
    assert mask.sum() == 5 * 4 - 2 * 3
    assert canvas[0, 0].tolist() == IMAGE[0, 0].tolist()
    assert canvas[4, 3].tolist() == IMAGE[1, 2].tolist()


@pytest.mark.parametrize("sides", [(0, 0, 0, 0), (-1, 2, 0, 0), (10**6, 10**6, 0, 0), (2**40, 0, 0, 0)])
def test_canvases_that_cannot_be(sides: tuple[int, int, int, int]) -> None:
    with pytest.raises(InputError, match=r"outpainting by .* pixels"):
        extended(IMAGE, *sides)
