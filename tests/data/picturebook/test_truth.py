import numpy as np

from darkroom.data.picturebook import render, sample_scene
from darkroom.data.picturebook.truth import SEMANTIC_CLASSES, ground_truth


def test_maps_boxes_and_shares_agree() -> None:
    shares = []
    for seed in range(60):
        scene = sample_scene(np.random.default_rng(seed))
        truth = ground_truth(scene, 96, 64)
        assert truth.instances.shape == truth.semantic.shape == truth.depth.shape == (64, 96)
        for i, (thing, seen) in enumerate(zip(scene.things, truth.things)):
            mask = truth.object_mask(i)
            top, left, bottom, right = seen.box
            assert mask[top:bottom, left:right].sum() == mask.sum()
            assert set(truth.semantic[mask]) <= {SEMANTIC_CLASSES.index(thing.kind)}
            shares.append(seen.share)
        assert truth.depth.min() >= 0
        assert truth.depth.max() <= 1
    assert np.mean(np.array(shares) >= 0.6) > 0.98  # things can be seen


def test_behind_a_mask_is_the_scene_without_the_thing() -> None:
    scene = sample_scene(np.random.default_rng(3), things=2)
    truth = ground_truth(scene, 128, 128)
    image, without = render(scene, 128, 128), truth.image_without(1)
    changed = (image != without).any(axis=2)
    mask = truth.object_mask(1)
    assert changed[mask].mean() > 0.9
    box = scene.things[1].box
    margin = 0.06  # its outline and shadow reach a little beyond its box
    far = np.ones_like(mask)
    top, bottom, left, right = (
        round(128 * v) for v in (box.top - margin, box.bottom + margin, box.left - margin, box.right + margin)
    )
    far[max(0, top) : bottom, max(0, left) : right] = False
    assert far.any()
    assert not changed[far].any()
