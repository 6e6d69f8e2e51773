"""The table of a teacher beside its students."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from darkroom.cli.app import app
from darkroom.evaluation.few_steps import variety


def test_variety_is_1_where_a_prompt_says_nothing_and_0_where_pictures_repeat() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(200, 16))
    free = variety(pictures.reshape(50, 4, 16), pictures)
    assert free.interval is not None
    assert free.interval[0] < 1 < free.interval[1]
    assert abs(free.value - 1) < 0.1
    repeated = variety(np.repeat(pictures[:50, None], 4, axis=1), pictures)
    assert repeated.value < 1e-6


def test_models_are_drawn_at_numbers_of_steps(tiny_folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    asked = [
        "evaluate",
        "few-steps",
        str(tiny_folder),
        str(tiny_folder),
        "--teacher-steps",
        "2",
        "--student-steps",
        "1",
    ]
    result = CliRunner().invoke(app, [*asked, "--count", "4", "--varied", "2", "-o", str(report)])
    assert result.exit_code == 0, result.output
    rows = json.loads(report.read_text())
    assert [(r["steps"], r["right"]["asked"]) for r in rows] == [(2, 4), (1, 4)]
    assert all(r["frechet"]["value"] > 0 and r["seconds"] > 0 and r["variety"]["value"] > 0 for r in rows)


@pytest.mark.parametrize("steps", ["0", "4,,1", "four"])
def test_numbers_of_steps_are_checked(steps: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", "few-steps", "a", "b", "--student-steps", steps])
    assert result.exit_code != 0
    assert "--student-steps is" in str(result.exception) + result.output
