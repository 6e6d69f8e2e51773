"""Rows that are computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from darkroom.errors import InputError
from darkroom.training.row_cache import RowCache


def test_rows_are_computed_when_asked_for_and_kept(tmp_path: Path) -> None:
    asked: list[list[int]] = []

    def compute(numbers: list[int]) -> np.ndarray:
        asked.append(numbers)
        return np.array([[[n, 2 * n]] for n in numbers])

    path = tmp_path / "folder" / "rows.u8"
    rows = RowCache(path, 6, (1, 2), np.uint8, compute)
    assert not path.exists()
    assert rows.get([4, 0, 4]).tolist() == [[[4, 8]], [[0, 0]], [[4, 8]]]
    again = RowCache(path, 6, (1, 2), np.uint8, compute)
    assert again.get([0, 5]).tolist() == [[[0, 0]], [[5, 10]]]
    assert asked == [[0, 4], [5]]


def test_a_file_that_cannot_be_mapped_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.u8").mkdir()
    rows = RowCache(tmp_path / "rows.u8", 6, (2,), np.uint8, lambda numbers: np.zeros((len(numbers), 2)))
    with pytest.raises(InputError, match=r"rows.u8 cannot be opened"):
        rows.get([0])
