"""What one walk over all pairs finds is what the metrics find one by one."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.evaluation import all_pairs
from darkroom.evaluation.all_pairs import pair_numbers, within
from darkroom.evaluation.copies import copied_share, nearest
from darkroom.evaluation.kernel import GaussianKernel, Kernel, gaussian_distance, kernel_distance
from darkroom.evaluation.neighbors import neighbor_shares


def _sets() -> tuple[np.ndarray, np.ndarray]:
    """Of unlike sizes, about a mean as far from zero as that of real features, with rows that both hold."""
    rng = np.random.default_rng(0)
    x, y = (3 + rng.normal(size=(n, 24)).astype(np.float32) for n in (310, 270))
    x[:20] = y[5:25]
    x[20:30] = x[30]
    return x, y


@pytest.mark.parametrize("held", [1_000, 10**9], ids=["in pieces", "at once"])
def test_numbers_are_those_of_the_metrics(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_pairs, "HELD", held)
    x, y = _sets()
    found = pair_numbers(within(x), within(y))
    expected = {
        name: float(values.mean()) for name, values in neighbor_shares(x.astype(float), y.astype(float)).items()
    }
    expected["kernel"] = kernel_distance(x.astype(float), y.astype(float))
    expected["gaussian"] = gaussian_distance(x.astype(float), y.astype(float))
    expected["copies"] = copied_share(nearest(x, [y]), nearest(y, [y], itself=True)).value
    assert {name: m.value for name, m in found.items()} == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_intervals_are_those_of_the_metrics() -> None:
    """Of blocks in one order: samples that keep all rows shuffle them."""
    x, y = _sets()
    metrics = (Kernel(), Kernel(), GaussianKernel(), GaussianKernel())
    for metric, rows in zip(metrics, (x, y, x, y)):
        metric.update(rows)
    expected = metrics[0].result(metrics[1])["kernel"], metrics[2].result(metrics[3])["gaussian"]
    shuffled = (within(m.sample.rows) for m in metrics[:2])
    found = pair_numbers(*shuffled)
    for name, m in zip(("kernel", "gaussian"), expected):
        assert found[name].interval == pytest.approx(m.interval, rel=1e-4)
