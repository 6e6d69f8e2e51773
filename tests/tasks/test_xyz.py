import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.labels import labelled_sheet
from darkroom.tasks.pipeline import Pipeline
from darkroom.tasks.xyz import Axis, grid_requests, grid_sheet, parse_axis
from darkroom.types import Guidance, HighResolution, Request


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=10, 20,30", Axis("steps", (10, 20, 30))),
        ("steps=2..8..3", Axis("steps", (2, 5, 8))),
        ("cfg=1-5", Axis("guidance", (1.0, 2.0, 3.0, 4.0, 5.0))),
        ("CFG scale=1-9 (+4)", Axis("guidance", (1.0, 5.0, 9.0))),
        ("guidance=0-1 [5]", Axis("guidance", (0.0, 0.25, 0.5, 0.75, 1.0))),
        ("seed=9..7..-1", Axis("seed", (9, 8, 7))),
        ("sampler=Euler a,DPM++ 2M", Axis("sampler", ("Euler a", "DPM++ 2M"))),
        ('prompt="a cat, sitting",a dog', Axis("prompt", ("a cat, sitting", "a dog"))),
        ("prompt s/r=red,blue", Axis("prompt s/r", ("red", "blue"))),
        ("extras.rescale=0,0.7", Axis("extras.rescale", (0.0, 0.7))),
        ("extras.projected=true,False", Axis("extras.projected", (True, False))),
        ("hires.enlarge=latent,picture", Axis("hires.enlarge", ("latent", "picture"))),
    ],
)
def test_axes(text: str, expected: Axis) -> None:
    assert parse_axis(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "wanted is FIELD=VALUE"),
        ("stepz=1", "unknown axis 'stepz'; known are: steps"),
        ("steps=ten", "axis steps: 'ten' is wrong, wanted are whole numbers"),
        ("steps=1.5", "axis steps: '1.5'"),
        ("guidance=1..5..-1", "has no end"),
        ("guidance=1..5..0", "has no end"),
        ("guidance=1..1000000", "has no end or too many"),
        ("extras.projected=maybe", "true or false"),
        ("image=a", "unknown axis 'image'"),
    ],
)
def test_wrong_axes(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_axis(text)


@given(st.text(max_size=40))
def test_any_axis_is_read_or_refused(text: str) -> None:
    for whole in (text, f"steps={text}", f"prompt={text}"):
        with contextlib.suppress(InputError):
            assert parse_axis(whole).values


def test_cells_are_ordered_x_first() -> None:
    axes = [parse_axis("prompt s/r=red,blue"), parse_axis("extras.rescale=0,1"), parse_axis("hires.scale=1.5,2")]
    cells = grid_requests(Request("a red cat"), axes)
    assert [(c.prompt, c.extras, c.hires) for c in cells[:3]] == [
        ("a red cat", Guidance(), HighResolution(1.5)),
        ("a blue cat", Guidance(), HighResolution(1.5)),
        ("a red cat", Guidance(rescale=1.0), HighResolution(1.5)),
    ]
    assert cells[4].hires == HighResolution(2.0)
    with pytest.raises(InputError, match="'green' stands neither"):
        grid_requests(Request("a red cat"), [parse_axis("prompt s/r=green,blue")])
    with pytest.raises(InputError, match="the grid has 900 cells"):
        grid_requests(Request(), [parse_axis("seed=1..30"), parse_axis("steps=1..30")])


def test_a_sheet_holds_every_picture_of_any_size(tiny_model: LatentDiffusion) -> None:
    axes = [parse_axis("width=32,48"), parse_axis("seed=1,2,3")]
    pictures = Pipeline(tiny_model).generate(grid_requests(Request("a cat", steps=2), axes))
    sheet = grid_sheet(pictures, axes)
    for p in pictures:
        h, w = p.pixels.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(sheet, (h, w, 3))[:, :, 0]
        assert (windows[..., 0, 0, 0] == p.pixels[0, 0, 0]).any()
        assert any(
            np.array_equal(windows[y, x], p.pixels) for y, x in np.argwhere(windows[..., 0, 0, 0] == p.pixels[0, 0, 0])
        )


def test_labels_take_room_only_where_they_are() -> None:
    cell = np.zeros((20, 30, 3), np.uint8)
    bare = labelled_sheet([cell], [""], [""], [""])
    assert bare.shape == (20 + 16, 30 + 16, 3)
    named = labelled_sheet([cell], ["a long label that is wrapped"], ["row"], ["block"])
    assert named.shape[0] > bare.shape[0]
    assert named.shape[1] > bare.shape[1]
    assert named[:, :, 0].min(axis=1)[:8].max() <= 255
    assert (named < 128).any(axis=2).sum() > 20 * 30  # ink beside the picture
