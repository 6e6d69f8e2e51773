from pathlib import Path

import pytest
import torch
from narrow_checkpoints import narrow

from benchmarks.measure import error
from benchmarks.training import train
from benchmarks.work import Settings
from darkroom.errors import InputError

WORK = train(narrow("sd-v1-5"), 8, 2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.05)])
def test_both_sides_learn_the_same(tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
    """The second step begins at the weights that the first has made. Tolerances: rounding."""
    contest = WORK.prepare(Settings(dtype, torch.device("cpu"), tmp_path))
    assert contest.exact is not None
    assert contest.exact.min() > 0
    answers = {name: [run().answer for _ in range(2)] for name, run in contest.runs.items()}
    for first, second in answers.values():
        assert first is not None
        assert second is not None
        assert error(first, contest.exact) < tolerance
        assert error(second, first) > 0.01
        assert answers["diffusers"][1] is not None
        assert error(second, answers["diffusers"][1]) < tolerance


def test_half_precision_without_scaled_losses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bf16 or fp32, expected is fp16"):
        WORK.prepare(Settings(torch.float16, torch.device("cpu"), tmp_path))
