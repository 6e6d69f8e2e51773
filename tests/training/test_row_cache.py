"""Rows that are computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkroom.errors import InputError
from darkroom.training.row_cache import RowCache


def test_rows_are_kept_with_the_keys_of_their_samples(tmp_path: Path) -> None:
    content = {i: f"picture {i}" for i in range(6)}
    path = tmp_path / "folder" / "rows.u8"
    rows = RowCache(path, 6, (1, 2), np.uint8, content.__getitem__)
    assert not path.exists()
    assert rows.absent([4, 0, 4]) == [4, 0]
    rows.put([4, 0], np.array([[[4, 8]], [[0, 1]]]))
    again = RowCache(path, 6, (1, 2), np.uint8, content.__getitem__)
    assert again.get([4, 0, 4]).tolist() == [[[4, 8]], [[0, 1]], [[4, 8]]]
    assert again.absent(range(6)) == [1, 2, 3, 5]
    content[4] = "another picture 4"
    assert again.absent([4, 0]) == [4]
    again.check(lambda numbers: np.array([[[0, 1]]] * len(numbers)), str)
    with pytest.raises(InputError, match=r"rows.u8 holds something else for 0 than is computed now: remove it"):
        again.check(lambda numbers: np.array([[[1, 0]]] * len(numbers)), str)


def test_a_file_of_other_rows_is_begun_anew(tmp_path: Path) -> None:
    RowCache(tmp_path / "rows", 6, (2,), np.uint8, str).put([1], np.ones((1, 2)))
    assert RowCache(tmp_path / "rows", 7, (2,), np.uint8, str).absent([1]) == [1]


def test_a_file_that_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.u8").mkdir()
    rows = RowCache(tmp_path / "rows.u8", 6, (2,), np.uint8, str)
    with pytest.raises(InputError, match=r"rows.u8 cannot be opened"):
        rows.absent([0])
