"""Ids of jobs: each its own, and in the order of their making."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from darkroom.serve.jobs import new_id


def test_what_was_made_later_sorts_later_within_one_millisecond_too() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))


def test_threads_never_share_an_id() -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: new_id(), range(1000)))
    assert len({each[:16] for each in ids}) == 1000
