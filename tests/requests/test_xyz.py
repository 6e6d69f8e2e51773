import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.pictures.labels import labeled_sheet
from darkroom.requests.xyz import Axis, grid_requests, grid_sheet, parse_axis
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Guidance, HighResolution, Request


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("steps=10, 20,30", Axis("steps", (10, 20, 30))),
        ("steps=2..8..3", Axis("steps", (2, 5, 8))),
        ("cfg=1-5", Axis("guidance_scale", (1.0, 2.0, 3.0, 4.0, 5.0))),
        ("CFG scale=1-9 (+4)", Axis("guidance_scale", (1.0, 5.0, 9.0))),
        ("guidance_scale=0-1 [5]", Axis("guidance_scale", (0.0, 0.25, 0.5, 0.75, 1.0))),
        ("seed=9..7..-1", Axis("seed", (9, 8, 7))),
        ("sampler=Euler a,DPM++ 2M", Axis("sampler", ("Euler a", "DPM++ 2M"))),
        ('prompt="a cat, sitting",a dog', Axis("prompt", ("a cat, sitting", "a dog"))),
        ("prompt s/r=red,blue", Axis("prompt s/r", ("red", "blue"))),
        ("guidance.rescale=0,0.7", Axis("guidance.rescale", (0.0, 0.7))),
        ("guidance.apg=true,False", Axis("guidance.apg", (True, False))),
        ("hires.enlarge=latent,picture", Axis("hires.enlarge", ("latent", "picture"))),
        ("Steps=1-10 [4]", Axis("steps", (1, 4, 7, 10))),
        ("steps=1-2 [5]", Axis("steps", (1, 2))),  # nothing twice
        ("seed=9007199254740993..9007199254740994", Axis("seed", (9007199254740993, 9007199254740994))),  # no float
        ("Prompt S/R: red,blue", Axis("prompt s/r", ("red", "blue"))),
        ("Clip skip=none,2", Axis("clip_skip", (None, 2))),
        ("Var. strength=0,0.5", Axis("variation_strength", (0.0, 0.5))),
        ("sampler_options.eta=0,0.5", Axis("sampler_options.eta", (0, 0.5))),
        ("denoising_end=0.5,1", Axis("denoising_end", (0.5, 1.0))),
        ("guidance.interval=none,0.2 0.8", Axis("guidance.interval", (None, (0.2, 0.8)))),
        ("--guidance-rescale=0,0.7", Axis("guidance.rescale", (0.0, 0.7))),
        ("negative_prompt=,blurry", Axis("negative_prompt", ("", "blurry"))),
    ],
)
def test_axes(text: str, expected: Axis) -> None:
    assert parse_axis(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "expected SETTING=VALUE"),
        ("stepz=1", "unknown setting 'stepz'; known are: steps"),
        ("steps=ten", "axis steps: 'ten' is wrong, expected a whole number"),
        ("steps=1.5", "axis steps: '1.5'"),
        ("steps=1..2..0.5", "axis steps: the range '1..2..0.5' is wrong, expected are whole numbers"),
        ("guidance_scale=1..5..-1", "axis guidance_scale: the range '1..5..-1' has no end"),
        ("guidance_scale=1..5..0", "has no end"),
        ("guidance_scale=1-5 [1000]", "has 1000 values"),
        ("guidance_scale=nan", "axis guidance_scale: 'nan' is wrong, expected a number"),
        ("schedule=karras,", "axis schedule: '' is wrong"),
        ("hires.enlarge=lanczos", "'lanczos' is wrong, expected latent or picture"),
        ("guidance.interval=0", "axis guidance.interval: '0' is wrong, expected 2 numbers"),
        ("guidance_scale=1..1000000", "has no end or too many"),
        ("guidance.apg=maybe", "true or false"),
        ("hires=2,", "axis hires.scale: '' is wrong"),
        ("regions=a", "regions cannot be the axis of a grid"),
        ("guidance=1", "guidance cannot be the axis of a grid"),
        ("image=a", "image cannot be the axis of a grid"),
    ],
)
def test_wrong_axes(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_axis(text)


@given(st.text(max_size=40))
def test_any_axis_is_read_or_refused(text: str) -> None:
    for whole in (text, *(f"{name}={text}" for name in ("steps", "guidance_scale", "prompt", "eta", "sigmas"))):
        with contextlib.suppress(InputError):
            assert parse_axis(whole).values


def test_cells_are_ordered_x_first() -> None:
    axes = [parse_axis("prompt s/r=red,blue"), parse_axis("guidance.rescale=0,1"), parse_axis("hires.scale=1.5,2")]
    cells = grid_requests(Request("a red cat"), axes)
    assert [(c.prompt, c.guidance, c.hires) for c in cells[:3]] == [
        ("a red cat", Guidance(), HighResolution(1.5)),
        ("a blue cat", Guidance(), HighResolution(1.5)),
        ("a red cat", Guidance(rescale=1.0), HighResolution(1.5)),
    ]
    assert cells[4].hires == HighResolution(2.0)
    with pytest.raises(InputError, match="'green' stands neither"):
        grid_requests(Request("a red cat"), [parse_axis("prompt s/r=green,blue")])
    with pytest.raises(InputError, match=r"hires\.strength says nothing without hires\.scale"):
        grid_requests(Request("a red cat"), [parse_axis("hires.strength=0.4,0.5")])
    with pytest.raises(InputError, match="the grid has 900 cells"):
        grid_requests(Request(), [parse_axis("seed=1..30"), parse_axis("steps=1..30")])


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 9))
def test_ranges_count_like_python(first: int, last: int, step: int) -> None:
    signed = step if last >= first else -step
    expected = tuple(range(first, last + (1 if signed > 0 else -1), signed))
    assert parse_axis(f"seed={first}..{last}..{signed}").values == expected
    assert parse_axis(f"guidance_scale={first}..{last}..{signed}").values == expected
    assert parse_axis(f"seed={first}-{last} ({signed:+d})").values == expected


def test_labels_say_what_the_cells_hold() -> None:
    searched = [parse_axis("prompt s/r=red,blue"), parse_axis("prompt=a red cat,a red dog")]
    for axes in (searched, searched[::-1]):  # words are replaced in the prompts of the other axis, whichever is first
        prompts = {c.prompt for c in grid_requests(Request("a house"), axes)}
        assert prompts == {"a red cat", "a blue cat", "a red dog", "a blue dog"}
    with pytest.raises(InputError, match="two axes of the grid vary seed"):
        grid_requests(Request(), [parse_axis("seed=1,2"), parse_axis("Seed=3,4")])
    cells = grid_requests(Request(sampler_options={"s_churn": 1.0}), [parse_axis("eta=0,0.5")])
    assert [dict(c.sampler_options) for c in cells] == [{"s_churn": 1.0, "eta": 0}, {"s_churn": 1.0, "eta": 0.5}]
    axis = parse_axis("guidance.interval=0 0.25")
    assert axis.label(axis.values[0]) == "guidance.interval: 0, 0.25"
    assert parse_axis("guidance_scale=7").label(7.0) == "guidance_scale: 7"


def test_a_sheet_holds_every_picture_of_any_size(tiny_model: LatentDiffusion) -> None:
    axes = [parse_axis("width=32,48"), parse_axis("seed=1,2,3")]
    pictures = Pipeline(tiny_model).generate(grid_requests(Request("a cat", steps=2), axes))
    sheet = grid_sheet([p.pixels for p in pictures], axes)
    for p in pictures:
        h, w = p.pixels.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(sheet, (h, w, 3))[:, :, 0]
        assert (windows[..., 0, 0, 0] == p.pixels[0, 0, 0]).any()
        assert any(
            np.array_equal(windows[y, x], p.pixels) for y, x in np.argwhere(windows[..., 0, 0, 0] == p.pixels[0, 0, 0])
        )


def test_labels_take_room_only_where_they_are() -> None:
    cell = np.zeros((20, 30, 3), np.uint8)
    bare = labeled_sheet([cell], [""], [""], [""])
    assert bare.shape == (20 + 16, 30 + 16, 3)
    named = labeled_sheet([cell], ["a long label that is wrapped"], ["row"], ["block"])
    assert named.shape[0] > bare.shape[0]
    assert named.shape[1] > bare.shape[1]
    assert (named < 128).any(axis=2).sum() > 20 * 30  # ink beside the picture


@pytest.mark.parametrize("label", ["WWWW WWWWWWWWWWWWWWWWWWWW WW", "a " * 300, "x" * 3000, "été, ночь"])
def test_long_labels_stay_over_their_column(label: str) -> None:
    cell = np.full((40, 120, 3), 255, np.uint8)
    sheet = labeled_sheet([cell] * 2, [label, ""], [""], [""])
    inked = np.flatnonzero((sheet < 200).any(axis=(0, 2)))
    assert len(inked) > 0
    assert inked.min() > 0
    assert inked.max() <= 8 + 120 + 4  # the margin, the column, half the gap
    rows = np.flatnonzero((sheet < 200).any(axis=(1, 2)))
    assert rows.min() > 0  # whole letters
