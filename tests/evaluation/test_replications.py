"""Replications: the parts that can be known by definition, and one claim tried whole at its tiny scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from darkroom.cli.app import app
from darkroom.errors import InputError
from darkroom.evaluation.kernel import difference
from darkroom.evaluation.metric import Measured
from darkroom.evaluation.replications import guidance, inpainting
from darkroom.evaluation.replications.claim import Outcome, Verdict, above_zero, apart, page
from darkroom.evaluation.replications.overview import as_json, overview, record_of
from darkroom.evaluation.replications.plot import curves
from darkroom.evaluation.replications.schedule_flaws import brightness_error, ideal_denoiser
from darkroom.evaluation.replications.shipped import kernel_between
from darkroom.evaluation.replications.trial import Trial


def test_the_ideal_denoiser_is_bayes() -> None:
    """Against the densities written out; far from noise it is the nearest picture, deep in it the mean."""
    torch.manual_seed(0)
    pictures = torch.randn(5, 3, dtype=torch.float64)
    denoise = ideal_denoiser(pictures)
    x, sigma = torch.randn(2, 3, dtype=torch.float64), torch.tensor(0.7)
    normal = torch.distributions.Normal(pictures, 0.7)
    weights = normal.log_prob(x[:, None]).sum(dim=2).softmax(dim=1)
    assert torch.allclose(denoise(x, sigma), weights @ pictures, atol=1e-6)
    assert torch.allclose(denoise(pictures, torch.tensor(1e-3)), pictures)
    assert torch.allclose(denoise(x, torch.tensor(1e4)), pictures.mean(dim=0), atol=1e-3)


def test_the_error_of_brightness_counts_deviations() -> None:
    torch.manual_seed(0)
    pictures = torch.randn(400, 1, dtype=torch.float64).expand(-1, 4)
    assert brightness_error(pictures, pictures) == 0
    assert brightness_error(pictures + 2 * pictures[:, 0].std(), pictures) == pytest.approx(2)


def test_flawed_schedules_replicate(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["replicate", "schedule-flaws", "-o", str(tmp_path / "page.md")])
    assert done.exit_code == 0, (done.output, done.exception)
    text = (tmp_path / "page.md").read_text()
    assert text == done.output
    assert text.count("- **Holds**") == 3
    assert "| zero terminal SNR |" in text
    assert {p.suffix for p in tmp_path.iterdir()} == {".md", ".json", ".svg", ".png"}
    made = tmp_path / "README.md"
    assert CliRunner().invoke(app, ["replicate", "overview", "-o", str(made)]).exit_code == 0
    assert "(schedule-flaws.md) | Lin et al. 2024, section 3; the schedule that ADD relies on | tiny | 3 | 0 | 0 |" in (
        made.read_text()
    )


def test_unknown_claims_and_scales_are_told() -> None:
    assert "schedule-flaws" in CliRunner().invoke(app, ["replicate", "list"]).output
    for arguments, message in (
        (["schedule-flow"], "unknown claim 'schedule-flow'; known are: schedule-flaws"),
        (["schedule-flaws", "--scale", "huge"], "unknown scale 'huge'; known are: "),
    ):
        assert message in str(CliRunner().invoke(app, ["replicate", *arguments]).exception)


def test_an_order_counts_where_intervals_do_not_meet() -> None:
    assert apart((2.0, 3.0), (0.0, 1.0)) is True
    assert apart((0.0, 1.0), (2.0, 3.0)) is False
    assert apart((0.0, 2.0), (1.0, 3.0)) is None
    assert apart(Measured(5.0), (1.0, 3.0)) is None  # no interval, no verdict
    assert [above_zero(np.array(d)) for d in ([1.0, 1.1], [-1.0, -1.1], [-1.0, 1.0], [1.0])] == [
        True,
        False,
        None,
        None,
    ]


def test_what_two_distances_share_is_no_uncertainty_of_their_difference() -> None:
    """Two sets that hardly differ, against one reference: their intervals meet, that of the difference is narrow."""
    rng = np.random.default_rng(0)
    truth, a = rng.standard_normal((2, 200, 4))
    near, far = kernel_between(a + 0.5, truth), kernel_between(a + 0.6, truth)
    assert apart(far.interval or (0, 0), near.interval or (0, 0)) is None
    assert apart(far, near) is True
    assert apart(near, far) is False
    assert apart(near, near) is None
    gap = difference(far, near)
    assert gap.value == pytest.approx(far.value - near.value)
    assert apart(gap, difference(near, far)) is True  # differences of differences
    plain = difference(Measured(5.0, (4.0, 6.0)), Measured(1.0, (0.5, 1.5)))
    assert (plain.value, plain.interval) == (4.0, (2.5, 5.5))
    assert difference(kernel_between(a[:50], truth), near).interval is None


def _points(kept: list[int], distances: list[float], recalls: list[float]) -> list[guidance.Point]:
    def near(value: float) -> Measured:
        return Measured(value, (value - 0.01, value + 0.01))

    return [
        guidance.Point(float(i), np.arange(1000) < k, near(d), near(0.5), near(r))
        for i, (k, d, r) in enumerate(zip(kept, distances, recalls))
    ]


def test_guidance_is_judged_by_its_points() -> None:
    def words(*rows: list) -> list[bool | None]:
        return [v.holds for v in guidance.verdicts_of(_points(*rows))]

    assert words([200, 500, 800], [0.5, 0.1, 0.4], [0.6, 0.4, 0.2]) == [True, True, True, True]
    assert words([500, 500, 500], [0.1, 0.3, 0.6], [0.2, 0.4, 0.6]) == [None, False, False, None]


def test_inpainting_is_judged_picture_by_picture() -> None:
    rng = np.random.default_rng(0)

    def filled(error: float, away: float, distance: float) -> inpainting.Filled:
        spread = 0.01 * rng.standard_normal((2, 50))
        return inpainting.Filled("", error + spread[0], away + spread[1], Measured(distance, (distance, distance)))

    one, mean, best = filled(20, 1.0, 0.1), filled(22, 0.8, 0.3), filled(21, 0.5, 0.0)
    assert [v.holds for v in inpainting.verdicts_of(one, mean, best)] == [True] * 4
    assert [v.holds for v in inpainting.verdicts_of(mean, one, best)] == [False, False, False, True]


def test_a_page_says_what_was_not_decided(tmp_path: Path) -> None:
    plot = curves("scale", ["1", "2"], {"a < b": [(1.0, None), (2.0, (1.5, 2.5))]})
    picture = np.zeros((4, 4, 3), np.uint8)
    outcome = Outcome(
        [["x"], ["1"]], [Verdict("up", True), Verdict("down", False), Verdict("even", None)], plot, picture
    )
    text = page("guidance", outcome, Trial("tiny"), 12.3, "2 cores")
    assert "- **Not decided at this scale**: even" in text
    assert "guidance.svg" in text
    assert "guidance.png" in text
    assert "a &lt; b" in plot
    (tmp_path / "guidance.json").write_bytes(as_json(record_of("guidance", outcome, Trial("tiny"), 12.3)))
    assert "(guidance.md)" in overview(tmp_path)
    assert "| tiny | 1 | 1 | 1 | 12 |" in overview(tmp_path)
    (tmp_path / "small").mkdir()
    (tmp_path / "small/guidance.json").write_bytes(as_json(record_of("guidance", outcome, Trial("small"), 60)))
    tiny, small = (line for line in overview(tmp_path).splitlines() if "Guidance trades" in line)
    assert "(guidance.md)" in tiny
    assert "(small/guidance.md)" in small
    before = overview(tmp_path)
    for name, other in {"a": "{", "b": "[1]", "c": '{"all": 1}', "small/d": '{"claim": ["x"]}'}.items():
        (tmp_path / f"{name}.json").write_text(other)
    (tmp_path / "e.json").mkdir()
    assert overview(tmp_path) == before
    for name, damaged in {
        "other": '{"claim": "guidance"}',
        "small/guidance": "{",
        "Guidance": '{"claim": "x"}',
    }.items():
        path = tmp_path / f"{name}.json"
        whole = path.read_bytes() if path.exists() else b""
        path.write_text(damaged)
        with pytest.raises(InputError, match=path.name):
            overview(tmp_path)
        path.write_bytes(whole) if whole else path.unlink()


@pytest.mark.parametrize(
    ("name", "output", "message"),
    [
        ("overview", "made.md", "there is no record of a claim in"),
        ("overview", "", "is a folder, expected is the file to write, such as"),
        ("guidance", "folder.md", "is a folder, expected is the file to write, such as"),
    ],
)
def test_where_nothing_can_be_listed_or_written(tmp_path: Path, name: str, output: str, message: str) -> None:
    (tmp_path / "folder.md").mkdir()
    found = CliRunner().invoke(app, ["replicate", name, "-o", str(tmp_path / output)]).exception
    assert isinstance(found, InputError)
    assert message in str(found)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.md"]
