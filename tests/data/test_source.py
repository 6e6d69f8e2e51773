from dataclasses import replace

import numpy as np
import pytest

from darkroom.data.picturebook.relations import part_silhouette
from darkroom.data.picturebook.render import render
from darkroom.data.picturebook.truth import ground_truth
from darkroom.data.source import COLOUR_NAMES, KIND_NAMES, MAP_NAMES, PictureBook, PictureBookConfig
from darkroom.errors import InputError


def test_maps_name_what_is_where_and_its_colour() -> None:
    source = PictureBook(PictureBookConfig(size=64, count=40, seed=3))
    seen = set()
    for index in range(40):
        names, colours = source.things_map(index, 64)
        truth = ground_truth(source.scene(index), 64, 64)
        assert np.array_equal(names == 0, truth.instances <= 0)
        for i, thing in enumerate(source.scene(index).things):
            there = truth.instances == i + 1
            said = {(_number(p), 1 + COLOUR_NAMES.index(c)) for p, c in thing.parts.items()}
            own = (_number(thing.kind), 1 + COLOUR_NAMES.index(thing.colour))
            assert set(zip(names[there].tolist(), colours[there].tolist())) <= {own, *said}
            seen |= {p for p in thing.parts if (names[there] == _number(p)).any()}
    assert seen == {"roof", "door", "sail", "hat", "scarf"}


def test_a_part_takes_the_pixels_that_change_with_its_colour() -> None:
    source = PictureBook(PictureBookConfig(size=128, count=200, most_things=1))
    scene = next(s for s in map(source.scene, range(200)) if s.things[0].kind == "house" and s.sign is None)
    house = scene.things[0]
    other = replace(house, parts={**house.parts, "roof": "green" if house.parts["roof"] != "green" else "red"})
    changed = (render(scene, 512, 512) != render(replace(scene, things=(other,)), 512, 512)).any(axis=2)
    found = part_silhouette(house, "roof", 512, 512)
    assert not (found & ~changed).any()
    assert found.sum() > 0.75 * changed.sum()  # outlines change too, a little


def _number(name: str) -> int:
    return 1 + MAP_NAMES.index(name)


def test_scenes_hold_at_most_so_many_things() -> None:
    counts = [len(PictureBook(PictureBookConfig(64, 100, most_things=2)).scene(i).things) for i in range(100)]
    assert set(counts) == {1, 2}
    everything = PictureBook(PictureBookConfig(64, 100))
    assert max(len(everything.scene(i).things) for i in range(100)) == 4
    with pytest.raises(InputError, match="most_things is 7, expected is 1 to 4"):
        PictureBook(PictureBookConfig(64, 100, most_things=7)).scene(0)


def test_a_sample_tells_what_is_where() -> None:
    source = PictureBook(PictureBookConfig(size=64, count=20, seed=5, maps=("segmentation", "depth", "mask")))
    masks = set()
    for index in range(20):
        sample, scene = source.sample(index, np.random.default_rng(index)), source.scene(index)
        truth, given = ground_truth(scene, 64, 64), sample.conditions
        assert [KIND_NAMES[b[0]] for b in given["boxes"]] == [t.kind for t in scene.things]
        assert KIND_NAMES[given["class"]] == scene.things[-1].kind
        for (_, x0, y0, x1, *_), thing in zip(given["boxes"], scene.things):
            assert 0 <= x0 < x1 <= 1
            assert (x0, y0) == pytest.approx((max(thing.box.left, 0), max(thing.box.top, 0)))
        assert np.array_equal(given["segmentation"], truth.semantic)
        assert np.array_equal(given["depth"], truth.depth)
        (masked,) = (i for i in range(len(scene.things)) if np.array_equal(given["mask"], truth.object_mask(i)))
        masks.add(masked)
    assert len(masks) > 1


def test_maps_change_no_caption_and_come_without_pixels() -> None:
    plain = PictureBook(PictureBookConfig(64, 4))
    mapped = PictureBook(PictureBookConfig(64, 4, maps=("segmentation", "mask")))
    bare = plain.sample(2, np.random.default_rng(1))
    full = mapped.sample(2, np.random.default_rng(1), pixels=False)
    assert set(bare.conditions) == {"caption", "class", "boxes"}
    assert full.conditions["caption"] == bare.conditions["caption"]
    assert full.image is None
    assert full.conditions["segmentation"].shape == (64, 64)
    assert plain.key(2) == mapped.key(2)  # of the same picture, so of the same latents
