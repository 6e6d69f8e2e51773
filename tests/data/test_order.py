"""Which samples make up a step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.data.order import Order
from darkroom.errors import InputError
from darkroom.types import Size

SQUARE, WIDE = Size(64, 64), Size(32, 128)


@settings(max_examples=50, deadline=None)
@given(square=st.integers(1, 40), wide=st.integers(0, 40), batch=st.integers(1, 9), seed=st.integers(0, 5))
def test_an_epoch_holds_every_sample_and_each_batch_one_size(square: int, wide: int, batch: int, seed: int) -> None:
    order = Order({SQUARE: range(square), WIDE: range(square, square + wide)}, batch, seed)
    for epoch in (0, 1):
        steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
        places = [order.batch(step) for step in steps]
        assert all(len(b) == batch and len({p.size for p in b}) == 1 for b in places)
        assert all(p.epoch == epoch for b in places for p in b)
        assert {p.index for b in places for p in b} == set(range(square + wide))
        assert [p.number for b in places for p in b] == list(range(steps.start * batch, steps.stop * batch))
        assert sum(map(len, places)) - (square + wide) == order.filled


def test_epochs_and_seeds_differ_and_calls_do_not() -> None:
    def first(seed: int, epoch: int) -> list[int]:
        order = Order({SQUARE: range(100)}, 100, seed)
        return [p.index for p in order.batch(epoch)]

    assert first(0, 0) == first(0, 0)
    assert len({tuple(first(s, e)) for s in (0, 1) for e in (0, 1)}) == 4


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_however_a_step_is_cut_it_holds_the_same_samples(world: int, pieces: int) -> None:
    order = Order({SQUARE: range(50), WIDE: range(50, 61)}, 8, seed=3)
    for step in range(12):
        shares = [order.share(step, rank, world, pieces) for rank in range(world)]
        assert all(len(share) <= pieces for share in shares)
        found = sorted((p for share in shares for piece in share for p in piece), key=lambda p: p.number)
        assert found == order.batch(step)


def test_a_place_seeds_its_sample() -> None:
    one, two = Order({SQUARE: range(9)}, 2, 0).batch(0)
    draws = [p.rng(seed).random() for p, seed in ((one, 0), (one, 0), (two, 0), (one, 1))]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_buckets_that_are_smaller_than_a_batch_are_filled() -> None:
    order = Order({SQUARE: np.arange(3)}, 7, 0)
    assert order.filled == 4
    assert sorted(np.bincount([p.index for p in order.batch(0)])) == [2, 2, 3]


def test_there_must_be_something() -> None:
    with pytest.raises(InputError, match="the data set is empty"):
        Order({SQUARE: []}, 2, 0)
    with pytest.raises(InputError, match="batch_size is 0"):
        Order({SQUARE: [1]}, 0, 0)
