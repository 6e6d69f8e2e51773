"""Control networks on the command line: each with its picture, and what is said of it in order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom.cli.controls import Controls
from darkroom.errors import InputError


def test_values_stand_once_for_all_or_once_each(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for i, path in enumerate(paths):
        Image.new("RGB", (4, 4), (i, i, i)).save(path)
    controls = Controls(
        ["depth", "edges"], [str(p) for p in paths], ["none", "canny"], [0.5], ends=[1.0, 0.6], guess=True
    )
    first, second = controls.said()["controls"]
    assert (first.model, first.weight, first.end, first.preprocessor, first.guess) == ("depth", 0.5, 1.0, None, True)
    assert (second.model, second.weight, second.end, second.preprocessor) == ("edges", 0.5, 0.6, "canny")
    assert np.array_equal(second.image, np.ones((4, 4, 3), np.uint8))
    assert second.image_path == str(paths[1])
    assert Controls().said() == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"models": ["a"]}, "--control is given once, --hint 0 times: expected is one picture each"),
        ({"hints": ["a"]}, "--control is given 0 times, --hint once: expected"),
        ({"weights": [1.0]}, "--control-weight says nothing without --control"),
        ({"guess": True}, "--guess says nothing without --control"),
        ({"encoder": "x"}, "--image-encoder says nothing without --control"),
        (
            {"models": ["a"] * 3, "hints": ["a"] * 3, "starts": [0.1, 0.2]},
            "--control-start is given 2 times, expected is once, or once for each --control",
        ),
    ],
)
def test_what_does_not_go_together(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Controls(**given)
