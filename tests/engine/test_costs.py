"""Which rows are worth joining, on costs that are made up, and that the engine asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from darkroom.engine import batcher
from darkroom.engine.ask import Ask, Told
from darkroom.engine.costs import LOOK_AGAIN, TRIES, Costs
from darkroom.engine.engine import Engine
from darkroom.engine.pipeline import Pipeline
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request


def joined(costs: Costs, seconds: Callable[[int], float], calls: int, available: int = 16, own: int = 2) -> list[int]:
    """The rows of `calls` calls where that many rows always wait."""
    found = []
    for _ in range(calls):
        rows = costs.most("company", own, available)
        assert own <= rows <= available
        costs.add("company", rows, seconds(rows))
        found.append(rows)
    return found


def test_all_are_joined_where_that_is_cheaper() -> None:
    rows = joined(Costs(), lambda n: 1.0 + 0.1 * n, 120)
    assert sum(n == 16 for n in rows) > 105
    assert rows[0] == 16


def test_each_goes_alone_where_joining_costs_more() -> None:
    rows = joined(Costs(), lambda n: n * (1.0 + 0.05 * n), 120)
    assert sum(n > 3 for n in rows[20:]) <= 100 // LOOK_AGAIN


def test_only_as_many_as_are_worth_it() -> None:
    rows = joined(Costs(), lambda n: 1.0 + 0.1 * n + (0.5 * (n - 8) if n > 8 else 0.0), 120)
    assert sum(8 <= n < 16 for n in rows) + sum(4 <= n < 8 for n in rows) > 100
    assert rows[-1] < 16


def test_it_notices_when_costs_change() -> None:
    costs = Costs()
    joined(costs, lambda n: 1.0 + 0.01 * n, 100)
    rows = joined(costs, lambda n: float(n * n), 10 * LOOK_AGAIN)
    assert sum(n <= 3 for n in rows[-LOOK_AGAIN:]) >= LOOK_AGAIN - 4


def test_companies_know_nothing_of_each_other() -> None:
    costs = Costs()
    joined(costs, lambda n: float(n * n), 60)
    assert costs.most("company", 2, 16) < 16
    assert costs.most("another", 2, 16) == 16


def test_what_waits_alone_is_not_split() -> None:
    assert Costs().most("company", 3, 3) == 3


def test_an_engine_that_learns_stops_joining_what_does_not_pay(
    tiny_model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that makes a call of n rows take n² seconds."""
    clock, true_answer = [0.0], batcher.answer

    def slow(asks: list[Ask], told: Told) -> list[Tensor]:
        clock[0] += float(sum(a.rows for a in asks) ** 2)
        return true_answer(asks, told)

    monkeypatch.setattr(batcher, "answer", slow)
    monkeypatch.setattr(batcher, "_now", lambda device: clock[0])
    pipeline = Pipeline(tiny_model)
    requests = [Request("a cat", seed=i, steps=12, guidance_scale=3.0) for i in range(4)]
    plain = [p.pixels for p in pipeline.generate(requests)]
    with Engine(most=4, learns=True) as engine:
        tickets = [pipeline.submit(engine, r) for r in requests]
        learned = [t.result().pixels for t in tickets]
    calls = engine.batcher.calls
    assert max(calls[: 2 * TRIES]) == 8
    assert calls[-8:] == [2] * 8
    assert all(abs(a.astype(int) - b.astype(int)).max() <= 1 for a, b in zip(plain, learned))
