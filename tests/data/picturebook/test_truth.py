import dataclasses

import numpy as np
import pytest

from darkroom.data.picturebook import Scene, render, sample_scene
from darkroom.data.picturebook.relations import OPPOSITE, RELATIONS
from darkroom.data.picturebook.truth import SEMANTIC_CLASSES, GroundTruth, ground_truth


def scene(seed: int, things: int | None = None, aspect: float = 1.0) -> Scene:
    return sample_scene(np.random.default_rng(seed), aspect, things=things)


@pytest.fixture(scope="module")
def truths() -> list[GroundTruth]:
    return [ground_truth(scene(seed, aspect=1.5), 96, 64) for seed in range(120)]


def test_maps_boxes_and_shares_agree(truths: list[GroundTruth]) -> None:
    for truth in truths:
        assert truth.instances.shape == truth.semantic.shape == truth.depth.shape == (64, 96)
        for i, (thing, seen) in enumerate(zip(truth.scene.things, truth.things)):
            assert (seen.kind, seen.colour) == (thing.kind, thing.colour)
            mask = truth.object_mask(i)
            top, left, bottom, right = seen.box
            assert mask[top:bottom, left:right].sum() == mask.sum() > 0
            edges = (mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1])
            assert all(edge.any() for edge in edges)
            assert set(truth.semantic[mask]) == {SEMANTIC_CLASSES.index(thing.kind)}


def test_most_of_every_thing_can_be_seen(truths: list[GroundTruth]) -> None:
    shares = np.array([seen.share for truth in truths for seen in truth.things])
    assert 0.6 <= shares.min() < 0.95  # some are behind others
    assert shares.max() == 1.0


def test_the_backdrop_is_sky_over_background_over_ground(truths: list[GroundTruth]) -> None:
    sky, background, ground = (SEMANTIC_CLASSES.index(n) for n in ("sky", "background", "ground"))
    for truth in truths:
        level = round(truth.scene.horizon * 64)
        classes = np.where(truth.instances == 0, truth.semantic, -1)
        assert set(np.unique(classes[:level])) <= {-1, sky, background}
        assert set(np.unique(classes[level:])) <= {-1, ground}
        assert (background in classes) == (truth.scene.background != "none")
        low, high = (classes == background)[: level - 1], (classes == sky)[1:level]
        assert not (low & high).any()  # no sky right under the hills


def test_clouds_and_sun_are_sky_and_leave_the_hills_alone() -> None:
    clear = dataclasses.replace(scene(5), background="hills", clouds=0, celestial="none", things=(), sign=None)
    cloudy = dataclasses.replace(clear, clouds=3, celestial="sun", background="none")
    assert set(np.unique(ground_truth(cloudy, 64, 64).semantic)) == {0, 2}
    hills = ground_truth(clear, 64, 64).semantic == SEMANTIC_CLASSES.index("background")
    plain = dataclasses.replace(clear, background="none")
    changed = np.abs(render(clear, 64, 64).astype(int) - render(plain, 64, 64)).max(axis=2)
    assert (changed[hills] > 8).mean() > 0.98


def test_depth_follows_the_painting(truths: list[GroundTruth]) -> None:
    met = 0
    for truth in truths:
        assert truth.depth.min() == 0
        assert truth.depth.max() <= 1
        depths = [truth.depth[truth.object_mask(i)].mean() for i in range(len(truth.things))]
        for i, a in enumerate(truth.scene.things):
            for j in range(i):
                if a.box.overlap(truth.scene.things[j].box) > 0:
                    met += 1
                    assert depths[i] >= depths[j] - 1e-6
        ground = np.where(truth.semantic == SEMANTIC_CLASSES.index("ground"), truth.depth, np.nan)
        column = ground[:, 0][~np.isnan(ground[:, 0])]
        assert (np.diff(column) > 0).all()
    assert met > 3


def test_what_flies_low_is_before_the_ground_behind_it() -> None:
    low = [
        (truth, i)
        for truth in (ground_truth(scene(seed), 64, 64) for seed in range(150))
        for i, thing in enumerate(truth.scene.things)
        if thing.home == "sky" and thing.box.bottom > truth.scene.horizon + 0.05
    ]
    assert low
    for truth, i in low:
        _, left, bottom, right = truth.things[i].box
        above = truth.depth[: bottom - 1, left:right][truth.semantic[: bottom - 1, left:right] == 2]
        assert truth.depth[truth.object_mask(i)].min() >= above.max(initial=0) - 0.03


def test_relations_hold_both_ways_round_and_between_boxes() -> None:
    found = set()
    for seed in range(300):
        truth = ground_truth(scene(seed, things=2), 64, 64)
        for i, relation, j in truth.relations:
            found.add(relation)
            assert (j, OPPOSITE[relation], i) in truth.relations
            a, b = truth.things[i].box, truth.things[j].box
            if relation == "left of":
                assert a[1] + a[3] < b[1] + b[3]
            elif relation == "above":
                assert a[0] + a[2] < b[0] + b[2]
            elif relation == "in front of":
                assert i > j
                assert a[2] > b[2]
                assert max(a[1], b[1]) < min(a[3], b[3]) + 3  # outlines need not fill their boxes
    assert found == set(RELATIONS)


def test_a_sign_is_on_the_maps() -> None:
    truth = next(ground_truth(s, 128, 128) for s in map(scene, range(200)) if s.sign is not None)
    assert truth.scene.sign is not None
    mask = truth.instances == -1
    assert set(truth.semantic[mask]) == {SEMANTIC_CLASSES.index("sign")}
    box = truth.scene.sign.box
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    edges = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]) / 128
    assert np.abs(edges - [box.top, box.left, box.bottom, box.right]).max() < 0.03


@pytest.mark.parametrize("things", [1, 2, 3])
def test_behind_a_mask_is_the_scene_without_the_thing(things: int) -> None:
    truth = ground_truth(scene(3, things=things), 128, 128)
    image = render(truth.scene, 128, 128)
    for i in range(things):
        without, mask, trace = truth.image_without(i), truth.object_mask(i), truth.trace_mask(i)
        assert np.array_equal(image[~trace], without[~trace])
        assert (image != without).any(axis=2)[mask].mean() > 0.9
        assert (mask & ~trace).sum() < 0.1 * mask.sum()
        box = truth.scene.things[i].box
        margin = 0.06  # its outline and shadow reach a little beyond its box
        far = np.ones_like(mask)
        top, bottom, left, right = (
            max(0, round(128 * v))
            for v in (box.top - margin, box.bottom + margin, box.left - margin, box.right + margin)
        )
        far[top:bottom, left:right] = False
        assert far.any()
        assert not trace[far].any()


@pytest.mark.parametrize(("width", "height"), [(16, 64), (64, 16), (8, 8), (256, 256)])
def test_any_size(width: int, height: int) -> None:
    small, again = (ground_truth(scene(7, aspect=width / height), width, height) for _ in range(2))
    assert small.depth.shape == (height, width)
    for name in ("instances", "semantic", "depth"):
        assert np.array_equal(getattr(small, name), getattr(again, name))
