"""What captions leave open: agreement by the definition, and the world measured against itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.data.picturebook import KINDS, render
from darkroom.data.picturebook.caption import Facts, Group
from darkroom.data.picturebook.prompts import Prompt, sample_prompts
from darkroom.engine.pipeline import Pipeline
from darkroom.errors import InputError
from darkroom.evaluation import open_facts
from darkroom.evaluation.judging import load_judge
from darkroom.evaluation.open_facts import OPEN, agreement, one_thing_scenes, open_agreements
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Request


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=8))
def test_agreement_is_the_share_of_equal_pairs(answers: list[str]) -> None:
    pairs = [answers[i] == answers[j] for i in range(len(answers)) for j in range(i)]
    assert agreement(answers) == pytest.approx(sum(pairs) / len(pairs))


def test_one_answer_has_nothing_to_agree_with() -> None:
    assert agreement(["day"]) is None


def test_the_world_agrees_with_itself_as_the_world_does(
    tiny_model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renders in place of pictures: the judge's reading of them varies as the scenes do."""
    kinds = ("house", "cat")
    prompts = [Prompt(f"a red {k}", Facts((Group(k, "red"),)), held_out=False) for k in kinds]

    def renders(pipeline: Pipeline, requests: list[Request]) -> np.ndarray:
        asked = [next(k for k in kinds if k in (r.prompt or "")) for r in requests]
        scenes = {kind: iter(one_thing_scenes(kind, 1000)) for kind in kinds}
        return np.stack([render(next(scenes[kind]), 128, 128) for kind in asked])

    monkeypatch.setattr(open_facts, "draw_pixels", renders)
    found = open_agreements(Pipeline(tiny_model), prompts, load_judge(), Request(), captions=2, seeds=24)
    assert list(found) == list(OPEN)
    assert found["part"].captions == sum(bool(KINDS[k].parts) for k in kinds)
    for name, one in found.items():
        assert one.drawn == pytest.approx(one.world, abs=0.15), name


def test_only_captions_of_one_thing_are_asked(tiny_model: LatentDiffusion) -> None:
    pairs = [p for p in sample_prompts(0, 20, (2, 2)) if len(p.facts.groups) == 2]
    with pytest.raises(InputError, match=r"0 prompts name one thing alone and each is drawn with 6 seeds, expected"):
        open_agreements(Pipeline(tiny_model), pairs, load_judge(), Request(), captions=4)
