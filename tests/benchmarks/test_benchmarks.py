import re

import pytest
import torch
from narrow_checkpoints import narrow

from benchmarks.__main__ import contenders, measure, reference
from benchmarks.measure import Figures, count_flop, error, in_turns
from benchmarks.report import Row, table
from benchmarks.works import Work, decode, encode, step, text

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "work",
    [
        step(narrow("sd-v1-5"), 64),
        step(narrow("sdxl-base"), 64),
        decode(narrow("sd-v1-5"), 32),
        encode(narrow("sd-v1-5"), 32),
        text(narrow("sd-v1-5"), "text_encoder"),
    ],
    ids=lambda work: work.title,
)
def test_both_sides_do_the_same_work(work: Work) -> None:
    """Tolerance: rounding of sums in another order."""
    with torch.inference_mode():
        ready = work.prepare(torch.float32, CPU)
        exact, flop = reference(ready)
        assert exact.abs().max() > 1e-3
        assert flop == count_flop(lambda: ready.ours(ready.networks.ours, *ready.inputs))
        for run in contenders(ready, torch.float32, compiled=False).values():
            assert error(run(), exact) < 1e-4


def test_a_measurement_is_complete() -> None:
    row = measure(decode(narrow("sd-v1-5"), 32), torch.bfloat16, CPU, 3, compiled=False)
    assert all(len(f.seconds) == 3 and f.median > 0 for f in row.figures.values())
    assert all(0 < e < 0.2 for e in row.errors.values())


def test_turns_alternate() -> None:
    calls: list[str] = []
    in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b", "a", "b", "b", "a"]


def test_memory_that_a_run_needs_is_seen() -> None:
    found = in_turns({"much": lambda: torch.ones(2**24).sum()}, 2)["much"].peak
    if found is None:
        pytest.skip("this platform does not tell")
    assert 2**26 * 0.8 < found < 2**26 * 1.5


def test_the_table_tells_ratios_by_round() -> None:
    figures = {"darkroom": Figures((1.0, 2.0, 1.0), None), "diffusers": Figures((2.0, 2.0, 3.0), 2**20)}
    lines = table([Row("w", 10**9, figures, {"darkroom": 0.5, "diffusers": 0.25})], 2e9).splitlines()
    cells = [c.strip() for c in re.split(r"\|", lines[2])[1:-1]]
    assert cells == ["w", "darkroom", "1.000", "2.00 (1.00–3.00)", "50%", "", "5.0e-01"]
    assert "1 MiB" in lines[3]
