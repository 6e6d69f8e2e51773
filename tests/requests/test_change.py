"""Requests changed by name: typed, whole, and nothing passed over in silence."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import InputError
from darkroom.requests.change import changed, check_needs, said, schema
from darkroom.requests.settings import SETTINGS, TABLES
from darkroom.types import Guidance, HighResolution, Region, Request

PIXELS = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"steps": 3, "cfg_scale": 2}, Request(steps=3, guidance_scale=2.0)),
        ({"guidance.rescale": 0.7}, Request(guidance=Guidance(rescale=0.7))),
        ({"guidance": {"apg": True, "interval": [0, 0.5]}}, Request(guidance=Guidance(apg=True, interval=(0.0, 0.5)))),
        ({"guidance": Guidance(pag_scale=2.0)}, Request(guidance=Guidance(pag_scale=2.0))),
        ({"hires.scale": 1.5}, Request(hires=HighResolution(1.5))),
        ({"hires": {"scale": 2, "steps": 9}}, Request(hires=HighResolution(2.0, steps=9))),
        ({"hires": None}, Request()),
        ({"sampler_options.eta": 1}, Request(sampler_options={"eta": 1})),
        ({"sampler_options": {"eta": 1, "s_churn": 2.0}}, Request(sampler_options={"eta": 1, "s_churn": 2.0})),
        ({"inputs": {"class": 3}}, Request(inputs={"class": 3})),
        ({"inputs.class": None}, Request()),
        ({"regions": [{"prompt": "a", "box": [0, 0, 1, 1]}]}, Request(regions=(Region("a", (0.0, 0.0, 1.0, 1.0)),))),
        ({"variation_seed": 3, "variation_strength": 0.5}, Request(variation_seed=3, variation_strength=0.5)),
    ],
)
def test_values_by_name(values: dict[str, Any], expected: Request) -> None:
    assert changed(Request(), values) == expected
    assert changed(Request(), said(expected)) == expected


def test_what_is_not_named_stays() -> None:
    before = Request(
        "a cat", hires=HighResolution(3.0, 0.4), guidance=Guidance(rescale=0.5), sampler_options={"eta": 1}
    )
    after = changed(before, {"hires.steps": 4, "guidance.apg": True, "sampler_options.s_churn": 2})
    assert after.hires == HighResolution(3.0, 0.4, 4)
    assert after.guidance == Guidance(rescale=0.5, apg=True)
    assert after.sampler_options == {"eta": 1, "s_churn": 2}
    assert before.sampler_options == {"eta": 1}
    assert changed(Request(image=PIXELS), {"strength": 0.5}).strength == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 3}, "unknown setting 'stepz'; known are: steps, "),
        ({"guidance": {"rescal": 1}}, "unknown setting 'guidance.rescal'; known are: guidance.rescale, "),
        ({"steps": "x"}, 'steps is "x", expected is a whole number'),
        ({"steps": True}, "steps is true, expected is a whole number"),
        ({"guidance": 3}, "guidance is 3, expected is a table"),
        ({"hires": {"scale": 2, "enlarge": "x"}}, "hires.enlarge is 'x', accepted are: latent, picture"),
        ({"inputs.class": "cat"}, 'inputs.class is "cat", expected is a whole number'),
        ({"regions": [{"box": [0, 0, 1, 1]}]}, "key regions[0].prompt is missing"),
        ({"steps": 3, "Steps": 4}, "steps is given twice"),
        ({"strength": 0.5}, "strength says nothing without image"),
        ({"hires.steps": 5}, "hires.steps says nothing without hires.scale"),
        ({"target_strength": 2.0}, "target_strength says nothing without target"),
    ],
)
def test_wrong_values(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        changed(Request(), values)
    assert message in str(raised.value)


def test_needs_are_named_as_the_command_line_does() -> None:
    with pytest.raises(InputError, match="--hires-strength says nothing without --hires"):
        check_needs(["hires.strength"], Request(), as_flags=True)
    check_needs(["hires.strength"], Request(hires=HighResolution()))
    check_needs(["hires.strength", "hires.scale"], Request())


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([s.path for s in SETTINGS] + list(TABLES)), plain, max_size=3))
def test_anything_is_taken_or_refused(values: dict[str, Any]) -> None:
    try:
        after = changed(Request(), values)
    except InputError:
        return
    assert isinstance(after, Request)


def test_the_schema_names_types_and_defaults() -> None:
    described = schema()
    assert json.loads(json.dumps(described)) == described
    p = described["properties"]
    told = {"description": "Sampler steps; default: the system's.", "x-panel": "What to draw"}
    assert p["steps"] == {"type": ["integer", "null"], **told}
    assert p["tome_ratio"]["default"] == 0.0
    assert p["hires"]["properties"]["enlarge"]["enum"] == ["latent", "picture"]
    interval = p["guidance"]["properties"]["interval"]
    assert (interval["type"], interval["minItems"]) == (["array", "null"], 2)
    assert p["regions"]["items"]["required"] == ["prompt", "box"]
    assert p["image"]["contentMediaType"] == "image/*"
    assert not described["additionalProperties"]
    assert p["inputs"]["additionalProperties"]
