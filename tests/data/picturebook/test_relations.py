"""What is said of two things is so in the picture, not only between their boxes."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.data.picturebook import Scene, Thing, describe, sample_scene
from darkroom.data.picturebook.relations import OPPOSITE, box_relations, hidden_share, relations, silhouette
from darkroom.data.picturebook.scene import Box
from darkroom.data.picturebook.truth import ground_truth


def scenes(n: int, things: int) -> list[Scene]:
    return [sample_scene(np.random.default_rng(i), things=things) for i in range(n)]


def thing(kind: str, box: Box) -> Thing:
    return Thing(kind, "red", {}, "medium", "right", box, seed=1)


def test_relations_agree_with_the_boxes_and_all_kinds_of_them_occur() -> None:
    found = set()
    for scene in scenes(400, things=2):
        a, b = scene.things
        for relation in relations(a, b):
            found.add(relation)
            (ay, ax), (by, bx) = a.box.centre, b.box.centre
            if relation in ("left of", "right of"):
                assert (relation == "left of") == (ax < bx)
            elif relation in ("above", "below"):
                assert (relation == "above") == (ay < by)
            else:
                assert relation == "behind"
                assert a.box.overlap(b.box) > 0
    assert found == {"left of", "right of", "above", "behind"} | (found & {"below"})


def test_behind_is_what_is_hidden() -> None:
    tree = thing("tree", Box(0.2, 0.2, 0.8, 0.6))
    under_its_crown = thing("mushroom", Box(0.65, 0.48, 0.9, 0.7))
    before_its_trunk = thing("mushroom", Box(0.65, 0.3, 0.9, 0.5))
    assert box_relations(tree, under_its_crown) == box_relations(tree, before_its_trunk)[-1:] == ["behind"]
    assert hidden_share(tree, under_its_crown) == 0
    assert relations(tree, under_its_crown) == []
    assert hidden_share(tree, before_its_trunk) > 0.02
    assert "behind" in relations(tree, before_its_trunk)


def test_a_silhouette_lies_in_its_box_and_hides_itself_whole() -> None:
    house = thing("tent", Box(0.25, 0.25, 0.75, 0.75))
    mask = silhouette(house, 64, 32)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert mask.shape == (32, 64)
    assert rows[0] >= 7
    assert rows[-1] <= 24
    assert columns[0] >= 15
    assert columns[-1] <= 48
    assert hidden_share(house, house) == 1


@pytest.mark.parametrize("aspect", [0.6, 1.0])
def test_captions_say_behind_only_where_something_is_hidden(aspect: float) -> None:
    said = unsaid = 0
    for seed in range(1200):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng, aspect, things=2)
        if "behind" not in box_relations(*scene.things):
            continue
        _, facts = describe(scene, rng)
        far = ground_truth(scene, round(96 * aspect), 96).things[0]
        for relation in facts.relations:
            if relation.relation in ("behind", "in front of"):
                said += 1
                assert far.share < 1
                behind = facts.groups[relation.subject if relation.relation == "behind" else relation.object]
                assert behind.kind == far.kind
        unsaid += far.share == 1
    assert said > 5
    assert unsaid > 5  # boxes alone would have said it of these, too


def test_opposites_are_opposite() -> None:
    assert all(OPPOSITE[OPPOSITE[r]] == r for r in OPPOSITE)
