"""Replications: the parts that can be known by definition, and one claim tried whole at its tiny scale."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from darkroom.cli.app import app
from darkroom.evaluation.replications.schedule_flaws import brightness_error, ideal_denoiser


def test_the_ideal_denoiser_is_bayes() -> None:
    """Against the densities written out; far from noise it is the nearest picture, deep in it the mean."""
    pictures = torch.randn(5, 3, dtype=torch.float64)
    denoise = ideal_denoiser(pictures)
    x, sigma = torch.randn(2, 3, dtype=torch.float64), torch.tensor(0.7)
    normal = torch.distributions.Normal(pictures, 0.7)
    weights = normal.log_prob(x[:, None]).sum(dim=2).softmax(dim=1)
    assert torch.allclose(denoise(x, sigma), weights @ pictures, atol=1e-6)
    assert torch.allclose(denoise(pictures, torch.tensor(1e-3)), pictures)
    assert torch.allclose(denoise(x, torch.tensor(1e4)), pictures.mean(dim=0), atol=1e-3)


def test_the_error_of_brightness_counts_deviations() -> None:
    pictures = torch.randn(400, 1, dtype=torch.float64).expand(-1, 4)
    assert brightness_error(pictures, pictures) == 0
    assert brightness_error(pictures + 2 * pictures[:, 0].std(), pictures) == pytest.approx(2)


def test_flawed_schedules_replicate(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["replicate", "schedule-flaws", "-o", str(tmp_path / "page.md")])
    assert done.exit_code == 0, (done.output, done.exception)
    text = (tmp_path / "page.md").read_text()
    assert text == done.output
    assert text.count("- Holds") == 3
    assert "| zero terminal SNR |" in text


def test_unknown_claims_and_scales_are_told() -> None:
    assert "schedule-flaws" in CliRunner().invoke(app, ["replicate", "list"]).output
    for arguments, message in (
        (["schedule-flow"], "unknown claim 'schedule-flow'; known are: schedule-flaws"),
        (["schedule-flaws", "--scale", "huge"], "unknown scale 'huge'; known are: "),
    ):
        assert message in str(CliRunner().invoke(app, ["replicate", *arguments]).exception)
