"""The trial of the metrics, on a world of made-up features in which every fault is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from darkroom.data.picturebook import render, sample_scene
from darkroom.errors import InputError
from darkroom.evaluation.features import FeatureNetwork
from darkroom.evaluation.known_world import Pool, World, exchanged_colors
from darkroom.evaluation.trust import FAULTS, TrustConfig, TrustReport, table, tried

KEPT = 0.9  # of prompts, without a fault


def _classes(rows: np.ndarray) -> np.ndarray:
    odds = np.exp(rows[:, :3])
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def report() -> TrustReport:
    rng = np.random.default_rng(0)
    config = TrustConfig((60,), repeats=5, pool=200)
    scenes = [sample_scene(np.random.default_rng(i), split="any") for i in range(config.pool)]

    def pool(shift: float = 0.0, kept: float = KEPT) -> Pool:
        rows = rng.normal(size=(config.pool, 4)).astype(np.float32) + shift
        return Pool(rows, rng.random(config.pool) < kept, scenes)

    clean = pool()
    blurred = {dose: replace(clean, rows=clean.rows + 3 * dose) for dose in FAULTS["blur"].doses}
    exchanged = replace(clean, kept=np.zeros(config.pool, bool))
    network = FeatureNetwork("double", "0", "none", lambda images: torch.zeros(len(images), 4), classes=_classes)
    return tried(World(pool(), clean, blurred, exchanged), network, config)


def test_each_fault_is_noticed_by_whom_it_concerns(report: TrustReport) -> None:
    noticed = report.noticed[60]
    for name in ("frechet", "kernel", "gaussian", "density", "coverage"):
        assert noticed[name]["blur"][-1] == 1, name
    assert noticed["kept prompts"]["exchanged colors"][-1] == 1
    assert noticed["frechet"]["exchanged colors"][-1] < 0.8  # the pictures' features are those of before
    assert noticed["copies"]["copied training pictures"][-1] == 1
    assert noticed["recall"]["fewer varieties"][-1] == 1
    assert all(len(shares) == 4 for by_fault in noticed.values() for shares in by_fault.values())


def test_the_table_tells_the_smallest_dose_and_who_gives_no_interval(report: TrustReport) -> None:
    rows = {row[0]: row for row in table(report)}
    assert rows["kernel"][-1] == "–"  # too few for an interval
    assert rows["precision"][-1].endswith("%")
    assert rows["kept prompts"][2 + list(FAULTS).index("exchanged colors")].endswith("of pictures")
    assert report.as_json()["network"] == "double [0]"


def test_colors_change_places_and_nothing_else() -> None:
    scenes = [sample_scene(np.random.default_rng(i), split="any") for i in range(50)]
    scene = next(s for s in scenes if len({t.kind for t in s.things}) > 1 and len({t.colour for t in s.things}) > 1)
    other = exchanged_colors(scene)
    assert sorted(t.colour for t in scene.things) == sorted(t.colour for t in other.things)
    assert [t.kind for t in scene.things] == [t.kind for t in other.things]
    assert (render(scene, 32, 32) != render(other, 32, 32)).any()


def test_sets_beyond_the_pool_are_refused() -> None:
    with pytest.raises(InputError, match="the number of pictures is 150, expected is 20 to half the pool, 200"):
        TrustConfig((150,), pool=200)
