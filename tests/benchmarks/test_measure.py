import pytest
import torch

from benchmarks.measure import Turn, in_turns, timed


def test_turns_alternate() -> None:
    calls: list[str] = []

    def run(name: str) -> Turn:
        calls.append(name)
        return Turn(float(len(calls)), len(calls), {"half": len(calls) / 2}, torch.tensor(len(calls)))

    figures, answers = in_turns({"a": lambda: run("a"), "b": lambda: run("b")}, 2)
    assert calls == ["a", "b", "a", "b", "b", "a"]
    assert figures["a"].seconds == (3, 6)
    assert figures["a"].parts == {"half": (1.5, 3)}
    assert {name: int(answer) for name, answer in answers.items()} == {"a": 1, "b": 2}


def test_memory_of_the_first_turn_counts() -> None:
    peaks = iter([7, 3, None])
    figures, _ = in_turns({"a": lambda: Turn(1.0, next(peaks))}, 2)
    assert figures["a"].peak == 7


def test_memory_that_a_run_needs_is_seen() -> None:
    found = timed(lambda: torch.ones(2**24).sum())()
    assert found.answer == 2**24
    if found.peak is None:
        pytest.skip("this platform does not tell")
    assert 2**26 * 0.8 < found.peak < 2**26 * 1.5
