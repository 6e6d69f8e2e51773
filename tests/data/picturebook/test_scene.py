import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.config import from_dict, to_dict
from darkroom.data.picturebook import COLOURS, KINDS, Scene, held_out_pairs, render, sample_scene
from darkroom.errors import InputError


def scenes(count: int, **options: object) -> list[Scene]:
    return [sample_scene(np.random.default_rng(i), **options) for i in range(count)]  # type: ignore[arg-type]


def test_a_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    a, b, c = (render(sample_scene(np.random.default_rng(s)), 64, 64) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert a.shape == (64, 64, 3)
    assert a.dtype == np.uint8


def test_one_pair_in_twenty_is_held_out_and_never_trained_on() -> None:
    held_out = held_out_pairs()
    assert len(held_out) == len(KINDS) * len(COLOURS) // 20
    assert len({kind for kind, _ in held_out}) == len(held_out)
    assert not any((t.kind, t.colour) in held_out for s in scenes(2000) for t in s.things)
    for scene in scenes(200, split="heldout"):
        assert any((t.kind, t.colour) in held_out for t in scene.things)


@pytest.mark.parametrize("things", [1, 2, 3, 4])
def test_the_number_of_things(things: int) -> None:
    assert all(len(s.things) == things for s in scenes(50, things=things))


def test_too_many_things() -> None:
    with pytest.raises(InputError, match="1 to 4 things, not 5"):
        sample_scene(np.random.default_rng(0), things=5)


@given(seed=st.integers(0, 2**32), aspect=st.floats(0.25, 4.0))
@settings(max_examples=150, deadline=None)
def test_every_thing_lies_in_the_picture_whatever_its_shape(seed: int, aspect: float) -> None:
    scene = sample_scene(np.random.default_rng(seed), aspect)
    for thing in scene.things:
        box = thing.box
        assert -0.01 <= box.top < box.bottom <= 1.01
        assert -0.01 <= box.left < box.right <= 1.01


def test_a_scene_survives_json() -> None:
    for scene in scenes(30):
        assert from_dict(Scene, to_dict(scene)) == scene


def test_sizes_that_cannot_be_painted() -> None:
    with pytest.raises(InputError, match="4x64 cannot be painted"):
        render(scenes(1)[0], 4, 64)
