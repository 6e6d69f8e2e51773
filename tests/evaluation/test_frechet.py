import numpy as np
import pytest
from scipy import linalg

from darkroom.errors import InputError
from darkroom.evaluation.frechet import frechet_distance


def test_agrees_with_the_matrix_square_root() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6))
    b = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) + 0.3
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    difference = a.mean(0) - b.mean(0)
    expected = difference @ difference + np.trace(cov_a + cov_b - 2 * linalg.sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_zero_for_equal_sets_and_squared_shift_for_shifted_ones() -> None:
    a = np.random.default_rng(1).normal(size=(50, 80))  # fewer rows than columns: a singular covariance
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(a, a + 2.0) == pytest.approx(80 * 4, rel=1e-6)


def test_too_few_rows() -> None:
    with pytest.raises(InputError, match="at least two feature rows"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
