import numpy as np
import pytest

from darkroom.errors import InputError
from darkroom.evaluation.frechet import frechet_distance
from darkroom.evaluation.moments import Moments


def moments(rows: np.ndarray) -> Moments:
    found = Moments()
    found.update(rows)
    return found


def test_zero_for_equal_sets_and_squared_shift_for_shifted_ones() -> None:
    a = np.random.default_rng(1).normal(size=(50, 80))  # fewer rows than columns: a singular covariance
    assert frechet_distance(moments(a), moments(a)) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(moments(a), moments(a + 2.0)) == pytest.approx(80 * 4, rel=1e-6)


def test_too_few_rows() -> None:
    with pytest.raises(InputError, match="at least 2 pictures"):
        frechet_distance(moments(np.zeros((1, 3))), moments(np.zeros((5, 3))))
