"""Metrics over streams of features: what they should be by definition, however the stream is cut."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from darkroom.errors import InputError
from darkroom.evaluation import frechet  # noqa: F401  # puts itself into METRICS
from darkroom.evaluation.inception_score import InceptionScore
from darkroom.evaluation.kernel import gaussian_distance, kernel_distance
from darkroom.evaluation.metric import METRICS, Metric, mean_of
from darkroom.evaluation.moments import Moments
from darkroom.evaluation.neighbors import neighbor_shares
from darkroom.evaluation.reservoir import Reservoir

_RNG = np.random.default_rng(0)
A = _RNG.normal(size=(300, 6)) @ _RNG.normal(size=(6, 6))
B = _RNG.normal(size=(200, 6)) + 0.5


@pytest.fixture
def rng() -> np.random.Generator:
    """Its own for each test, whichever run before it."""
    return np.random.default_rng(1)


def of(name: str, rows: np.ndarray, cuts: int = 1) -> Metric:
    metric = METRICS[name]()
    for part in np.array_split(rows, cuts):
        metric.update(part)
    return metric


def test_moments_are_those_of_all_rows_however_they_come() -> None:
    parts = [Moments() for _ in range(3)]
    for moments, rows in zip(parts, np.array_split(A, 3)):
        for batch in np.array_split(rows, 7):
            moments.update(batch)
    for moments in parts[1:]:
        parts[0].merge(moments)
    assert parts[0].count == 300
    np.testing.assert_allclose(parts[0].mean, A.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(parts[0].covariance, np.cov(A, rowvar=False), rtol=1e-10)
    with pytest.raises(InputError, match="not finite"):
        parts[0].update(np.full((2, 6), np.nan))
    with pytest.raises(InputError, match="width 5 do not go with those of width 6"):
        parts[0].update(np.ones((2, 5)))


def test_the_frechet_distance_is_that_of_scipys_root() -> None:
    s, t = np.cov(A, rowvar=False), np.cov(B, rowvar=False)
    root = scipy.linalg.sqrtm(s @ t).real
    expected = np.square(A.mean(0) - B.mean(0)).sum() + np.trace(s + t - 2 * root)
    found = of("fid", A, 9).result(of("fid", B))["frechet"]  # type: ignore[arg-type]
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_the_interval_of_the_frechet_distance_covers_what_repeats_give(rng: np.random.Generator) -> None:
    """About 95 of 100 intervals should hold the mean of many repeats; 60 repeats, so a wide band."""
    reference = of("frechet", rng.normal(size=(2000, 4)) + 0.3)
    repeats = [of("frechet", rng.normal(size=(400, 4))).result(reference)["frechet"] for _ in range(60)]
    mean = np.mean([r.value for r in repeats])
    held = sum(r.interval[0] <= mean <= r.interval[1] for r in repeats if r.interval is not None)
    assert 50 <= held <= 60


def test_the_kernel_distance_is_its_sum_over_pairs_and_has_no_bias(rng: np.random.Generator) -> None:
    x, y = A[:7], B[:5]

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 6 + 1) ** 3)

    xx = np.mean([k(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(xx + yy - 2 * xy, rel=1e-9)
    same = [kernel_distance(rng.normal(size=(50, 4)), rng.normal(size=(50, 4))) for _ in range(200)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 200**0.5


def test_the_gaussian_distance_is_its_sum_over_pairs() -> None:
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (A[:7], B[:5]))

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-np.square(a - b).sum() / 200))

    xx = np.mean([k(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert gaussian_distance(A[:7], B[:5]) == pytest.approx(1000 * (xx + yy - 2 * xy), abs=1e-9)


@pytest.mark.parametrize("name", ["kernel", "gaussian"])
def test_the_interval_of_kernel_distances_covers_what_repeats_give(name: str) -> None:
    """Unlike sets; about 95 of 100 intervals should hold the mean of many repeats."""
    rng = np.random.default_rng(5)
    repeats = [
        of(name, rng.normal(size=(150, 4)) + 1).result(of(name, rng.normal(size=(150, 4))))[name]  # type: ignore[arg-type]
        for _ in range(60)
    ]
    mean = np.mean([r.value for r in repeats])
    held = sum(r.interval[0] <= mean <= r.interval[1] for r in repeats if r.interval is not None)
    assert 52 <= held <= 60
    few = of(name, A[:50]).result(of(name, B[:50]))[name]  # type: ignore[arg-type]
    assert few.interval is None
    assert few.note == "no interval below 100 pictures a side"


def test_the_inception_score_is_its_definition_however_it_is_cut() -> None:
    rng = np.random.default_rng(6)
    rows = rng.dirichlet(np.full(8, 0.3), size=200)
    expected = []
    for i in range(10):
        part = rows[i::10]
        divergence = (part * (np.log(part) - np.log(part.mean(axis=0)))).sum(axis=1)
        expected.append(np.exp(divergence.mean()))
    whole, cut = InceptionScore(), InceptionScore()
    whole.update(rows)
    for part in np.array_split(rows, 7):
        cut.update(part)
    assert whole.score.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert cut.score.value == pytest.approx(whole.score.value, abs=1e-9)
    assert "low for so few" in whole.score.note
    one_class = np.tile([1.0, 0.0], (50, 1))
    assert of("is", one_class).result(of("is", one_class))["score"].value == pytest.approx(1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="are no probabilities"):
        whole.update(rows * 2)


def test_shares_by_neighbors_are_their_definitions() -> None:
    p, r, k = A[:40], B[:30], 3

    def reach(rows: np.ndarray, i: int) -> float:
        return float(sorted(np.linalg.norm(rows - rows[i], axis=1))[k])

    inside = [[np.linalg.norm(x - r[j]) <= reach(r, j) for j in range(30)] for x in p]
    shares = {name: float(v.mean()) for name, v in neighbor_shares(p, r, k, k).items()}
    assert shares["precision"] == pytest.approx(np.mean([any(row) for row in inside]))
    assert shares["density"] == pytest.approx(np.sum(inside) / (k * 40))
    covered = [any(inside[i][j] for i in range(40)) for j in range(30)]
    assert shares["coverage"] == pytest.approx(np.mean(covered))
    recalled = [any(np.linalg.norm(p[i] - r[j]) <= reach(p, i) for i in range(40)) for j in range(30)]
    assert shares["recall"] == pytest.approx(np.mean(recalled))


def test_shares_of_which_all_agree_have_honest_intervals() -> None:
    none = mean_of(np.zeros(12, bool))
    assert none.interval is not None
    assert none.interval[0] == pytest.approx(0, abs=1e-12)
    assert none.interval[1] == pytest.approx(0.2425, abs=1e-4)  # Wilson's, of none among 12
    assert mean_of(np.zeros(12)).interval is None


def test_precision_is_fidelity_and_recall_variety(rng: np.random.Generator) -> None:
    """Pictures of one mode out of two are faithful and miss half; the other way round they stray."""
    one = rng.normal(size=(400, 3)) * 0.5
    both = np.concatenate([one, rng.normal(size=(400, 3)) * 0.5 + 20])
    few = of("prdc", one[:200]).result(of("prdc", both))  # type: ignore[arg-type]
    many = of("prdc", both).result(of("prdc", one[:200]))  # type: ignore[arg-type]
    assert few["precision"].value > 0.9
    assert few["recall"].value < 0.6
    assert many["precision"].value < 0.6
    assert many["recall"].value > 0.9


def test_samples_do_not_depend_on_batches_and_are_fair() -> None:
    rows = np.arange(1000.0)[:, None]
    whole, cut, other = Reservoir(100), Reservoir(100), Reservoir(100, seed=1)
    whole.update(rows)
    for part in np.array_split(rows, 13):
        cut.update(part)
    assert np.array_equal(whole.rows, cut.rows)
    assert abs(whole.rows.mean() - 500) < 4 * 1000 / 12**0.5 / 10
    other.update(rows + 1000)
    whole.merge(other)
    assert len(whole.rows) == 100
    assert 30 < (whole.rows >= 1000).sum() < 70


def test_too_few_pictures_are_told() -> None:
    for name, rows, message in (
        ("frechet", A[:1], "at least 2 pictures"),
        ("kernel", A[:1], "at least 2 pictures"),
        ("neighbors", A[:5], "more than 5 pictures"),
    ):
        with pytest.raises(InputError, match=message):
            of(name, rows).result(of(name, B))  # type: ignore[arg-type]
