import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import InputError
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.tasks.parameters import parameters_text, parse_parameters
from darkroom.tasks.plan import plan
from darkroom.types import Request

# Lines that look like the settings or the negative prompt are the format's own ambiguity; no surrounding blanks either.
line = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), max_size=40).map(str.strip)
words = line.filter(lambda s: ":" not in s)


@given(prompt=words, negative=words, seed=st.integers(0, 2**63 - 1), steps=st.integers(1, 1000), scale=st.floats(0, 30))
def test_there_and_back(prompt: str, negative: str, seed: int, steps: int, scale: float) -> None:
    scale = float(f"{scale:g}")
    request = Request(
        prompt,
        negative,
        width=64,
        height=128,
        seed=seed,
        steps=steps,
        guidance=scale,
        sampler="Euler a",
        schedule="karras",
    )
    text = parameters_text(plan(request, PICTUREBOOK), "my, model: 2", "0123456789", "darkroom 1")
    back = parse_parameters(text)
    assert (back.prompt, back.negative_prompt) == (prompt, negative)
    assert (back.width, back.height, back.seed, back.steps, back.guidance) == (64, 128, seed, steps, scale)
    assert plan(back, PICTUREBOOK).batch_key == plan(request, PICTUREBOOK).batch_key


def test_as_other_tools_write_it() -> None:
    text = (
        "a castle,\non a hill\nNegative prompt: fog,\nrain\n"
        'Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 965400086, Size: 512x768, Model: "a, b", Clip skip: 2'
    )
    request = parse_parameters(text)
    assert request.prompt == "a castle,\non a hill"
    assert request.negative_prompt == "fog,\nrain"
    assert (request.width, request.height, request.steps, request.guidance) == (512, 768, 20, 7.5)
    assert request.sampler == "Euler a"


def test_a_text_without_settings_is_a_prompt() -> None:
    assert parse_parameters("a cat\nwith a hat").prompt == "a cat\nwith a hat"


def test_a_setting_that_is_no_number() -> None:
    with pytest.raises(InputError, match="Steps is 'many'"):
        parse_parameters("x\nSteps: many, Seed: 1, Size: 8x8")


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    """Nothing but InputError may come out of it."""
    with contextlib.suppress(InputError):
        assert isinstance(parse_parameters(text), Request)
