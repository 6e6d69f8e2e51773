"""Running means of any length: their weights over time, and what snapshots of a run give back."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from darkroom.errors import InputError
from darkroom.training.ema import EMA
from darkroom.training.power_ema import Snapshots, exponent, inner_products, power_decay, weights_for, width
from darkroom.training.world import World

ALONE = World()


@given(st.floats(0.005, 0.28))
def test_lengths_and_exponents_are_inverse(length: float) -> None:
    assert width(exponent(length)) == pytest.approx(length, rel=1e-9)


def test_the_papers_exponents() -> None:
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    with pytest.raises(InputError, match=r"length is 0.5, expected is a number from 0.005 to 0.28"):
        exponent(0.5)


def density(gamma: float, time: int, steps: int) -> np.ndarray:
    """What the parameters of each step weigh in the mean at `time`, by its definition."""
    edges = np.minimum(np.arange(steps + 1) / time, 1.0)
    return np.diff(edges ** (gamma + 1))


def test_the_recursion_is_the_mean_by_definition() -> None:
    """A trajectory of random parameters, float64: Σ wᵢ θᵢ."""
    torch.manual_seed(0)
    values, gamma = torch.randn(300, 3, dtype=torch.float64), exponent(0.1)
    net = nn.Linear(3, 1, bias=False).double()
    ema = EMA({"net": net}, functools.partial(power_decay, gamma))
    for value in values:
        net.weight.data.copy_(value)
        ema.update()
    expected = density(gamma, 300, 300) @ values.numpy()
    assert np.allclose(ema.shadow["net.weight"].numpy()[0], expected, rtol=0, atol=1e-12)
    # θ(τ) = τ has the mean (γ + 1) / (γ + 2) · t, up to half a step.
    assert density(gamma, 300, 300) @ np.arange(1, 301) == pytest.approx((gamma + 1) / (gamma + 2) * 300, abs=0.6)


def test_inner_products_are_integrals() -> None:
    times, gammas, fine = [400, 1000, 700], [3.0, 16.97, 6.94], 200_000
    step = 1000 / fine
    curves = [density(g, t * fine // 1000, fine) / step for t, g in zip(times, gammas)]
    brute = np.array([[float((p * q).sum() * step) for q in curves] for p in curves])
    assert np.allclose(inner_products(times, gammas, times, gammas), brute, rtol=1e-4)


def test_a_tracked_length_is_its_own_snapshot_and_others_come_near() -> None:
    times = [t for t in range(100, 1100, 100) for _ in range(2)]
    gammas = [exponent(0.05), exponent(0.10)] * 10
    own, error = weights_for(times, gammas, 1000, exponent(0.10))
    assert error < 1e-6
    assert np.allclose(own, np.eye(20)[19], atol=1e-6)
    for length in (0.03, 0.07, 0.15, 0.2):
        weights, error = weights_for(times, gammas, 1000, exponent(length))
        made = sum(w * density(g, t, 1000) for w, t, g in zip(weights, times, gammas))
        target = density(exponent(length), 1000, 1000)
        assert error == pytest.approx(np.linalg.norm(made - target) / np.linalg.norm(target), abs=0.01)
        assert error < 0.1, length
        assert weights.sum() == pytest.approx(1, abs=1e-9)


def test_any_length_is_rebuilt_of_the_snapshots_of_a_run(tmp_path: Path) -> None:
    """A smooth trajectory: what is rebuilt is what tracking that length would have given, to half precision."""
    net = nn.BatchNorm1d(4)

    def mean(length: float) -> EMA:
        return EMA({"net": net}, functools.partial(power_decay, exponent(length)))

    tracked = {length: mean(length) for length in (0.05, 0.1)}
    truth = {length: mean(length) for length in (0.08, 0.15)}
    snapshots = Snapshots(tmp_path)
    for n in range(1, 801):
        net.weight.data = torch.sin(torch.arange(4) + n / 150)
        net.num_batches_tracked += 1  # type: ignore[operator]
        for ema in (*tracked.values(), *truth.values()):
            ema.update()
        if n % 100 == 0:
            snapshots.write(n, {length: ema.shadow for length, ema in tracked.items()}, ALONE)
    for length, ema in truth.items():
        found = snapshots.rebuilt(length)
        assert (found.step, int(found.means["net.num_batches_tracked"])) == (800, 800)
        assert torch.allclose(found.means["net.weight"], ema.shadow["net.weight"], atol=0.01)
        assert torch.equal(found.means["net.bias"], torch.zeros(4))
    assert snapshots.rebuilt(0.1, 300).step == 300
    snapshots.forget_after(500)
    assert snapshots.steps() == [100, 200, 300, 400, 500]
    with pytest.raises(InputError, match="at is 800, expected is a step with a snapshot: 100, 200, 300, 400, 500"):
        snapshots.rebuilt(0.1, 800)
    with pytest.raises(InputError, match=r"holds no snapshots: a run keeps them with loop.ema_lengths"):
        Snapshots(tmp_path / "none").rebuilt(0.1)
