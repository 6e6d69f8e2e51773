"""What is asked of a model by words and seeds, and how it is told apart."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from darkroom.data.picturebook import COLOURS, KINDS, Facts, Group
from darkroom.errors import InputError
from darkroom.evaluation import conditioning
from darkroom.evaluation.conditioning import WORDS, Alternative, alternatives, measure, variance_shares
from darkroom.evaluation.conditioning_report import draw_conditioning, print_conditioning, write_conditioning
from darkroom.evaluation.first_stage import first_stage_ceiling, grid_strength
from darkroom.evaluation.judging import Findings
from darkroom.models.judge import Detection, Judge, JudgeConfig
from darkroom.models.tokenizer import WordTokenizer
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.picturebook import WORDS as VOCABULARY
from darkroom.training.judge import SURROUNDINGS
from darkroom.types import Request


@pytest.fixture(scope="module")
def judge() -> Judge:
    torch.manual_seed(0)
    return Judge(JudgeConfig(tuple(KINDS), tuple(COLOURS), 2, SURROUNDINGS, 4)).eval().requires_grad_(False)


@pytest.mark.parametrize("sort", WORDS)
def test_alternatives_differ_in_one_word_and_say_only_known_words(sort: str) -> None:
    tokenizer = WordTokenizer(VOCABULARY, 40)
    for seed in range(20):
        said = alternatives(sort, np.random.default_rng(seed))
        assert 2 <= len(said) <= 4
        assert len({a.caption for a in said}) == len({repr(a.facts) for a in said}) == len(said)
        assert all(tokenizer.unknown(a.caption) == [] for a in said)
    with pytest.raises(InputError, match="the sort of word is smell"):
        alternatives("smell", np.random.default_rng(0))


def test_variance_is_told_apart() -> None:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    word, seed = normal(4, 1, 5000), normal(1, 6, 5000)
    assert variance_shares(word.expand(4, 6, -1)) == pytest.approx((1.0, 0.0), abs=1e-6)
    assert variance_shares(seed.expand(4, 6, -1)) == pytest.approx((0.0, 1.0), abs=1e-6)
    mixed = word + 2 * seed + normal(4, 6, 5000)
    assert variance_shares(mixed) == pytest.approx((1 / 6, 4 / 6), abs=0.02)
    assert variance_shares(torch.zeros(2, 2, 3)) == (0.0, 0.0)


def test_pictures_that_show_what_is_said_and_pictures_that_do_not_care() -> None:
    said = [Alternative(k, Facts((Group(k, "red"),))) for k in ("cat", "dog")]

    def shows(kind: str) -> Findings:
        return Findings([Detection(kind, 1.0, "red", ("red", "red"), "left", (0, 0, 1, 1))], {}, np.zeros(1))

    assert conditioning._kept(said, [shows(k) for k in ("cat", "cat", "dog", "dog")], "kind", 2) == (1.0, 0.0)
    assert conditioning._kept(said, [shows(k) for k in ("cat", "dog", "cat", "dog")], "kind", 2) == (0.5, 1.0)
    assert conditioning._kept(said, [shows("cow")] * 4, "kind", 2) == (0.0, 0.0)


def test_a_model_is_taken_apart_and_told(tiny_model: LatentDiffusion, judge: Judge) -> None:
    leak = measure(tiny_model, judge, Request(steps=2), prompts=1, seeds=2).signal[0]
    assert leak == pytest.approx(0.068, abs=0.001)  # of the plain schedule
    zero = replace(
        tiny_model.system,
        schedule=replace(tiny_model.system.schedule, zero_terminal_snr=True),
        defaults=replace(tiny_model.system.defaults, schedule="trailing"),
    )
    model = build(zero).eval().requires_grad_(False)
    model.load_state_dict(tiny_model.state_dict())
    report = measure(model, judge, Request(steps=2), prompts=1, seeds=2)
    assert set(report.effects) == set(WORDS)
    assert len(report.signal) == 2
    assert report.signal[0] < 0.01 < report.signal[1]  # the first level holds nothing but noise
    for effect in report.effects.values():
        assert len(effect.words) == len(effect.seeds) == 2
        assert all(0 <= v <= 1 for v in (*effect.words, *effect.seeds, effect.followed, effect.unmoved))
    ceiling = first_stage_ceiling(tiny_model, judge, 3)
    assert ceiling.worst_psnr <= ceiling.psnr < 20  # random weights
    file, plot = io.BytesIO(), io.BytesIO()
    write_conditioning(file, report, ceiling)
    assert json.loads(file.getvalue())["effects"]["sky"]["chance"] == pytest.approx(1 / 3)
    draw_conditioning(plot, report)
    lines = ElementTree.fromstring(plot.getvalue()).findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2 * len(WORDS)
    print_conditioning(report, ceiling)


def test_one_seed_tells_nothing(tiny_model: LatentDiffusion, judge: Judge) -> None:
    with pytest.raises(InputError, match="the number of seeds is 1"):
        measure(tiny_model, judge, Request(), seeds=1)


def test_a_grid_stands_out_of_the_spectrum() -> None:
    error = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert grid_strength(error, 4) == pytest.approx(1.0, abs=0.3)
    error[..., ::4] += 1.0
    assert grid_strength(error, 4) > 5
