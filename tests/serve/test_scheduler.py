"""Whose picture is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from darkroom.serve.jobs import Job
from darkroom.serve.scheduler import Costs, Shares, in_turn


def job(client: str = "a", place: float = 0.0, priority: int = 0, deadline: float | None = None) -> Job:
    return Job("m", {}, client=client, place=place, priority=priority, deadline=deadline)


def test_priority_then_deadline_then_shares_then_place() -> None:
    late, soon = job(place=1, deadline=1000.0), job(place=2, deadline=105.0)
    first, urgent = job(place=3), job("b", place=4, priority=1)
    other = job("b", place=5)
    order = in_turn([first, other, late, soon, urgent], {"a": 2.0, "b": 1.0}, 100.0, lambda j: 2.0)
    assert order == [urgent, soon, other, late, first]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1, max_size=40))
def test_clients_who_wait_are_served_evenly(arrivals: list[tuple[str, int]]) -> None:
    """However many jobs one client has, another one's is drawn after at most one job of each."""
    shares, waiting = Shares(), [job(client, place=i) for i, (client, _) in enumerate(arrivals)]
    for j in waiting:
        shares.arrive(j.client, {w.client for w in waiting})
    while waiting:
        chosen = in_turn(waiting, shares.served, 0.0, lambda j: 1.0)[0]
        least = min(shares.served[w.client] for w in waiting)
        assert shares.served[chosen.client] == least
        shares.charge(chosen.client, 1.0)
        waiting.remove(chosen)


def test_nobody_saves_up_turns() -> None:
    shares = Shares()
    shares.charge("busy", 100.0)
    shares.arrive("new", ["busy"])
    assert shares.served["new"] == 100.0


def test_costs_are_learned_by_shape() -> None:
    costs = Costs()
    assert costs.seconds("m", 128 * 128, 10) is None
    costs.learn("m", 128 * 128, 10, 2.0)
    assert costs.seconds("m", 128 * 128, 20) == 4.0
    assert costs.seconds("m", 256 * 256, 10) == 8.0  # by pixels, where only another size is known
    costs.learn("m", 128 * 128, 10, 4.0)
    assert 2.0 < (costs.seconds("m", 128 * 128, 10) or 0) < 4.0
    assert costs.seconds("other", 128 * 128, 10) is None
