from pathlib import Path

import pytest
import torch
from narrow_checkpoints import narrow

from benchmarks.measure import Turn, counted, error
from benchmarks.one_network import decode, encode, step, text
from benchmarks.work import Settings, Work

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
def test_both_sides_do_the_same_work(work: Work, tmp_path: Path) -> None:
    """Tolerance: rounding of sums in another order."""
    found = work.prepare(Settings(torch.float32, CPU, tmp_path))
    assert found.exact is not None
    assert found.flop is not None
    assert found.exact.abs().max() > 1e-3
    for name, run in found.runs.items():
        answer, flop = counted(lambda run=run: answer_of(run()))
        assert error(answer, found.exact) < 1e-4
        # What our kernels in C do is not counted.
        assert 0 < flop <= found.flop if name == "darkroom" else flop == found.flop


def test_ours_enlarges_by_summed_kernels_as_a_loaded_model_does(tmp_path: Path) -> None:
    found = decode(narrow("sd-v1-5"), 32).prepare(Settings(torch.float32, CPU, tmp_path))
    _, flop = counted(lambda: answer_of(found.runs["darkroom"]()))
    assert found.flop is not None
    assert flop < found.flop


def answer_of(turn: Turn) -> torch.Tensor:
    assert turn.answer is not None
    return turn.answer
