"""`python -m benchmarks.serving`, in this process, on a tiny system."""

from __future__ import annotations

import sys
import threading

import pytest

from benchmarks import serving
from benchmarks.serving import Way, Work, requests

TINY = Work("sd-v1-5", 64, 2, narrow=True)


def test_unlike_requests_have_as_many_steps_in_all() -> None:
    for kind in ("equal", "unlike"):
        asked = list(requests(TINY, kind, 8, 1))
        assert sum(request["steps"] for request in asked) == 16
        assert len({request["seed"] for request in asked}) == 8
    assert len({request["prompt"] for request in asked}) > 1


def test_a_line_holds_throughput_beside_the_base() -> None:
    together = threading.Barrier(4)  # who asks for one at a time would wait for ever
    base = Way("x", "equal", 1, lambda request: None)
    way = Way("x", "equal", 4, lambda request: together.wait(240) and None)
    for one in (base, way):
        one.turn([{}] * 8)
    base.turns, way.turns = [0.3], [0.2]
    who, kind, clients, speed, times, *_, pictures = way.line(base).strip("| ").split(" | ")
    assert (who, kind, clients, speed, times, pictures) == ("x", "equal", "4", "5.00", "1.50", "8")


def test_the_command_asks_everybody(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(serving, "WORKS", {"tiny": TINY})
    monkeypatch.setattr(sys, "argv", ["serving", "--clients", "1", "2", "--pictures", "1", "--seconds", "0"])
    serving.main()
    rows = [line.split(" | ")[:3] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [" ".join(row).removeprefix("| ") for row in rows] == [
        "library one by one 1",
        "darkroom one by one 1",
        "darkroom equal 2",
        "darkroom unlike 2",
        "diffusers equal 1",
        "diffusers equal 2",
    ]
