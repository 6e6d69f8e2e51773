"""Pools of right and faulty scenes, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from darkroom.evaluation.features import open_features
from darkroom.evaluation.judging import load_judge
from darkroom.evaluation.known_world import Eyes, World, draw_world


def _world(folder: Path) -> World:
    return draw_world(Eyes(load_judge(), open_features("judge"), folder), 6, 32, 0, (2.0,))


def test_pools_are_kept_on_disk_and_seen_again_where_they_are_damaged(tmp_path: Path) -> None:
    first = _world(tmp_path)
    kept = sorted(tmp_path.glob("*.npy"))
    assert len(kept) == 4  # reference, right scenes, blurred ones, exchanged colors
    kept[0].write_bytes(b"no array")
    written = {path: path.stat().st_mtime_ns for path in kept[1:]}
    second = _world(tmp_path)
    assert sorted(tmp_path.glob("*.npy")) == kept
    assert np.load(kept[0]).shape == (6, 257)
    assert {path: path.stat().st_mtime_ns for path in kept[1:]} == written  # only the damaged one is written again
    for a, b in zip(
        (first.training, first.clean, first.blurred[2.0], first.exchanged),
        (second.training, second.clean, second.blurred[2.0], second.exchanged),
    ):
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_array_equal(a.kept, b.kept)
    assert first.clean.rows.shape == (6, 256)
    assert not np.allclose(first.clean.rows, first.blurred[2.0].rows)
    assert first.clean.kept.dtype == bool
