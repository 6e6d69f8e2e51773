import numpy as np
import pytest

from darkroom.data.picturebook.truth import ground_truth
from darkroom.data.source import COLOUR_NAMES, KIND_NAMES, PictureBook, PictureBookConfig
from darkroom.errors import InputError


def test_maps_name_kind_and_colour_of_every_thing_where_it_is() -> None:
    source = PictureBook(PictureBookConfig(size=64, count=40, seed=3))
    for index in range(40):
        kinds, colours = source.things_map(index, 64)
        truth = ground_truth(source.scene(index), 64, 64)
        assert np.array_equal(kinds == 0, truth.instances <= 0)
        for i, thing in enumerate(source.scene(index).things):
            there = truth.instances == i + 1
            assert set(kinds[there]) <= {1 + KIND_NAMES.index(thing.kind)}
            assert set(colours[there]) <= {1 + COLOUR_NAMES.index(thing.colour)}


def test_scenes_hold_at_most_so_many_things() -> None:
    counts = [len(PictureBook(PictureBookConfig(64, 100, most_things=2)).scene(i).things) for i in range(100)]
    assert set(counts) == {1, 2}
    everything = PictureBook(PictureBookConfig(64, 100))
    assert max(len(everything.scene(i).things) for i in range(100)) == 4
    with pytest.raises(InputError, match="most_things is 7, expected is 1 to 4"):
        PictureBook(PictureBookConfig(64, 100, most_things=7)).scene(0)
