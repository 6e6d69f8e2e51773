"""Prompts in the languages of other tools, from the request on."""

from dataclasses import replace

import pytest

from darkroom.errors import InputError
from darkroom.prompts.grammar import MAX_LENGTH
from darkroom.prompts.schedule import flat
from darkroom.prompts.syntaxes import SYNTAXES, in_own_syntax, read_prompt
from darkroom.prompts.tree import LoraTag
from darkroom.requests.plan import plan
from darkroom.requests.records.a1111 import parameters_text, parse_parameters
from darkroom.systems import SYSTEMS
from darkroom.types import Request

PICTUREBOOK = SYSTEMS["picturebook"]


def pieces(text: str, syntax: str, lost: list[str] | None = None) -> list[tuple[str, float]]:
    part = read_prompt(text, syntax, [] if lost is None else lost).parts[0]
    return [(p.text, round(p.weight, 4)) for p in flat(part.prompt, 0, 1).pieces]


@pytest.mark.parametrize(
    ("syntax", "text", "means"),
    [
        ("a1111", "a [cat] ((b:1.2):1.5)", [("a ", 1), ("cat", 0.9091), (" ", 1), ("b", 1.8)]),
        ("comfy", "a [cat] ((b:1.2):1.5)", [("a [cat] ", 1), ("b", 1.2)]),
        ("ComfyUI", "a AND b BREAK [c|d]", [("a AND b BREAK [c|d]", 1)]),
        ("compel", "a cat++ (b)1.3 c-", [("a ", 1), ("cat", 1.21), (" ", 1), ("b", 1.3), (" ", 1), ("c", 0.9)]),
        ("plain", r"a (cat:1.3) [b|c] AND \(d", [(r"a (cat:1.3) [b|c] AND \(d", 1)]),
    ],
)
def test_each_syntax_means_what_its_tool_means(syntax: str, text: str, means: list[tuple[str, float]]) -> None:
    assert pieces(text, syntax) == means


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_tags_of_loras_are_read_in_every_syntax(syntax: str) -> None:
    assert read_prompt("a cat <lora:ink:0.5>", syntax, []).loras == (LoraTag("ink", 0.5, 0.5),)


def test_compels_own_loras_and_what_it_loses() -> None:
    lost: list[str] = []
    prompt = read_prompt('("a", "b").blend(1, 3) ', "compel", lost)
    assert [part.weight for part in prompt.parts] == [0.25, 0.75]
    assert lost == ["the blend of prompts, of which AND is the nearest here"]
    assert read_prompt("a withLora(ink, 0.5)", "compel", []).loras == (LoraTag("ink", 0.5, 0.5),)
    negative = read_prompt('("a", "b").blend(1, 1)', "compel", lost, composed=False)
    assert [p.text for p in flat(negative.parts[0].prompt, 0, 1).pieces] == ["a ", " b"]  # no word AND in it


def test_the_plan_reads_the_prompt_weighs_as_the_tool_and_says_what_is_lost() -> None:
    request = Request('("a cat", "a dog").blend(1, 1)', "fog++", prompt_syntax="invokeai")
    planned = plan(request, PICTUREBOOK)
    assert len(planned.prompt.parts) == 2
    assert planned.emphasis == "compel"
    assert "not taken over from the prompt: the blend" in planned.remarks[0]
    assert plan(replace(request, emphasis="a1111"), PICTUREBOOK).emphasis == "a1111"
    with pytest.raises(InputError, match="unknown prompt syntax 'sd'; known are: "):
        plan(replace(request, prompt_syntax="sd"), PICTUREBOOK)
    with pytest.raises(InputError, match=f"{MAX_LENGTH + 1} characters"):
        plan(Request("(" * (MAX_LENGTH + 1), prompt_syntax="plain"), PICTUREBOOK)


def test_a_record_is_read_by_every_tool_and_repeats_the_request() -> None:
    request = Request("a [red] (cat:1.3)", "x AND y", prompt_syntax="comfy")
    text = parameters_text(plan(request, PICTUREBOOK), "m", "h", "darkroom 1")
    assert text.startswith("a \\[red\\] (cat:1.3)\nNegative prompt: x A\\ND y\n")
    found = parse_parameters(text).request
    assert (found.prompt, found.prompt_syntax, found.emphasis) == (request.prompt, "comfy", None)
    own = in_own_syntax(request)
    assert (own.prompt_syntax, own.emphasis) == ("a1111", "comfy")
    assert plan(own, PICTUREBOOK).prompt == plan(request, PICTUREBOOK).prompt
