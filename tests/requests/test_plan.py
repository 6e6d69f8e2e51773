"""What a plan says to the user before the picture is drawn."""

import numpy as np

from darkroom.requests.plan import plan
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.types import Request

IMAGE = np.zeros((128, 256, 3), np.uint8)


def test_a_mask_of_another_size_is_scaled_and_that_is_said() -> None:
    mask = np.zeros((32, 64), np.uint8)
    mask[:, 32:] = 1
    made = plan(Request(image=IMAGE, mask=mask), PICTUREBOOK)
    assert made.remarks == ("the mask is 64x32, the image 256x128: the mask is scaled to fit",)
    scaled = made.mask()
    assert scaled.shape == (128, 256)
    assert not scaled[:, :128].any()
    assert scaled[:, 128:].all()


def test_there_is_nothing_to_say_of_a_mask_that_fits() -> None:
    assert plan(Request(image=IMAGE, mask=np.ones((128, 256), np.uint8)), PICTUREBOOK).remarks == ()
    assert plan(Request(), PICTUREBOOK).remarks == ()
