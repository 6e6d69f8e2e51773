"""The ablations of ADD: the small parts of their laboratory, one run narrowed to two rows, how verdicts are found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.conditioning.conditioning import Conditioning
from darkroom.evaluation.replications import add_ablations
from darkroom.evaluation.replications.add_ablations import ABLATIONS, DEFAULT, READINGS, Numbers, Spread, farther
from darkroom.evaluation.replications.laboratory import (
    PROCESS,
    Narrow,
    NarrowDenoiser,
    features_of,
    painted,
    scenes,
)
from darkroom.evaluation.replications.narrow_students import NarrowTeacher, few_steps_drawn
from darkroom.evaluation.replications.trial import Trial


def test_the_ablations_run_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: ABLATIONS[name] for name in (DEFAULT, "weights: NFSD")}
    monkeypatch.setattr(add_ablations, "ABLATIONS", kept)
    monkeypatch.setattr(add_ablations, "SEEDS", 2)
    small = replace(add_ablations.SIZES["tiny"], pictures=16, teacher_steps=1, steps=1, batch=4, measured=6)
    monkeypatch.setitem(add_ablations.SIZES, "tiny", small)
    outcome = add_ablations.run(Trial("tiny", parts=tmp_path))
    assert [row[1] for row in outcome.table[4:]] == list(kept)
    assert "nan" not in str(outcome.table)
    assert [v.said for v in outcome.verdicts] == [
        r[0] for r in READINGS if {r[2], r[3]} <= {*kept, "the teacher, 1 step"}
    ]
    assert outcome.picture.ndim == 3
    assert len(list(tmp_path.iterdir())) == 2 * (
        2 + len(kept)
    )  # for each seed the teacher's two rows, and each student's


def test_a_narrow_teacher_sees_what_its_denoiser_does() -> None:
    torch.manual_seed(0)
    network = NarrowDenoiser(Narrow(vector=2), [torch.randn(20, 3, 4, 4)])
    x, told = 3 * torch.randn(2, 3, 4, 4), Conditioning(vector=torch.eye(2))
    t = torch.tensor([400, 400])
    ours = NarrowTeacher(network).estimate(x, t, told)
    theirs = PROCESS.denoiser(lambda x, t: network(x, t, told))(x, PROCESS.sigmas[400])
    assert torch.allclose(ours, theirs, atol=1e-4)
    one = few_steps_drawn(network, torch.eye(2), 4, (999,), 0)
    again = few_steps_drawn(network, torch.eye(2)[:1], 4, (999,), 0)
    assert torch.allclose(one[:1], again, atol=1e-3)  # its noise is its own


def test_every_reading_is_of_rows_that_there_are() -> None:
    rows = {*ABLATIONS, "the teacher, 1 step"}
    assert all({more, less} <= rows for _, _, more, less in READINGS)
    numbers = {name: [Numbers(1.0 + i, 0.5, 1.0, 1.0) for i in range(3)] for name in rows}
    numbers["start: random weights"] = [Numbers(9.0 + i, 0.5, 1.0, 1.0) for i in range(3)]
    words = {v.said: v.holds for v in add_ablations.verdicts_of(numbers)}
    assert [said for said, holds in words.items() if holds] == ["c: from random weights the student ends farther"]


def test_three_seeds_decide_only_what_they_agree_upon() -> None:
    """Against Student's interval by hand: mean 2, deviation 1, 4.303 / √3 = 2.48."""
    one = Spread(np.array([0.0, 0.0, 0.0]))
    assert farther(Spread(np.array([1.0, 2.0, 3.0])), one) is None
    assert farther(Spread(np.array([1.6, 2.0, 2.4])), one) is True
    assert farther(one, Spread(np.array([1.6, 2.0, 2.4]))) is False


def test_the_linear_reading_tells_true_skies_and_grounds() -> None:
    listed = scenes(0, 90)
    pictures, told = painted(listed, 8, 8), add_ablations.told_places(listed)
    assert (told.sum(dim=1) == 2).all()
    reader = add_ablations.Reader(pictures[:60], told[:60])
    assert reader.kept(features_of(pictures[60:]), told[60:]) > 0.8
    assert reader.kept(features_of(pictures[60:]), told[60:].flip(0)) < 0.7
