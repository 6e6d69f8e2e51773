"""The benchmark on a model and a judge that know nothing: what it asks, counts and writes."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom.data.picturebook import COLOURS, KINDS
from darkroom.data.picturebook.prompts import sample_prompts
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.evaluation import picturebook
from darkroom.evaluation.judging import Findings
from darkroom.evaluation.picturebook import QUESTIONS, Report, benchmark, print_report, write_report
from darkroom.evaluation.share import Share
from darkroom.models.judge import Detection, Judge, JudgeConfig
from darkroom.systems.build import LatentDiffusion
from darkroom.training.judge import SURROUNDINGS
from darkroom.types import Request


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(JudgeConfig(tuple(KINDS), tuple(COLOURS), 2, SURROUNDINGS, 4)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pipeline(tiny_model: LatentDiffusion) -> Pipeline:
    return Pipeline(tiny_model)


def test_every_prompt_is_drawn_judged_and_counted(pipeline: Pipeline, judge: Judge) -> None:
    prompts = sample_prompts(0, 10, (1, 2))
    sheet, file = io.BytesIO(), io.BytesIO()
    report = benchmark(pipeline, prompts, judge, Request(steps=2), sheet)
    assert Image.open(sheet).size == (8 * 32, 2 * 32)
    assert report.all["present"].asked == report.all["counts"].asked == report.pictures == 10
    assert report.unseen["present"].asked == sum(p.held_out for p in prompts) == 2
    assert report.all["relations"].asked == sum(bool(p.facts.relations) for p in prompts)
    assert report.frechet > 0
    write_report(file, report)
    assert json.loads(file.getvalue())["all"]["present"] == {"kept": report.all["present"].kept, "asked": 10}


def test_a_judge_that_sees_what_was_asked_gives_full_marks(
    pipeline: Pipeline, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [p for p in sample_prompts(0, 40, (1, 1)) if not p.facts.sign][:6]
    rng = np.random.default_rng(0)

    def truth(judge: Judge, pixels: np.ndarray) -> list[Findings]:
        found = []
        for prompt in prompts:
            (group,) = prompt.facts.groups
            slots = KINDS[group.kind].parts
            parts = tuple(group.parts.get(slot, "red") for slot in slots)
            place = {"sky": prompt.facts.sky, "ground": prompt.facts.ground, "background": prompt.facts.background}
            thing = Detection(group.kind, 0.9, group.colour or "white", parts, "left", (0, 0, 9, 9))
            found.append(Findings([thing], {k: v or "" for k, v in place.items()}, rng.normal(size=4)))
        return found

    monkeypatch.setattr(picturebook, "look_at", truth)
    report = benchmark(pipeline, prompts, judge, Request(steps=1))
    assert all(share.kept == share.asked for share in report.all.values())


def test_one_prompt_is_too_few(pipeline: Pipeline, judge: Judge) -> None:
    with pytest.raises(InputError, match="the list holds 1 prompt, expected are at least 2"):
        benchmark(pipeline, sample_prompts(0, 1, (1, 1)), judge, Request())


def test_the_interval_is_wilsons() -> None:
    """90 of 100: 0.8256 to 0.9448 (Newcombe 1998, method 3)."""
    assert Share(90, 100).interval == pytest.approx((0.8256, 0.9448), abs=1e-4)
    for n in range(1, 40):
        assert Share(0, n).interval[0] == pytest.approx(0, abs=1e-12)
        assert 0 <= Share(0, n).interval[0] < Share(n, n).interval[1] <= 1


def test_what_nobody_asked_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {q: Share(1, 2) for q in QUESTIONS} | {"relations": Share(0, 0)}
    print_report(Report(shares, {q: Share(0, 0) for q in QUESTIONS}, 1.5, 2))
    said = capsys.readouterr().out
    assert "nan" not in said
    assert "50.0%" in said
    assert "1.50 (2 pictures)" in said


def test_the_judge_reads_any_number_of_renders_the_same(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkroom.evaluation import judging

    whole = judging.judge_accuracy(judge, 7, 64)
    monkeypatch.setattr(judging, "BATCH", 3)
    assert judging.judge_accuracy(judge, 7, 64) == whole
