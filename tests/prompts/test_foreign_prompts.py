"""Prompts of other tools: what this project reads in their translations."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.prompts import comfy, compel
from darkroom.prompts.grammar import parse
from darkroom.prompts.schedule import flat
from darkroom.requests.records import novelai

Pieces = list[tuple[str, float]]


def from_compel(text: str, lost: list[str]) -> str:
    return compel.translated(text, lost)[0]


def read(translated: Callable[[str, list[str]], str], text: str) -> Pieces:
    """The pieces with their weights of a translation that loses nothing."""
    lost: list[str] = []
    parts = parse(translated(text, lost)).parts
    assert lost == []
    assert len(parts) == 1
    return [(p.text, round(p.weight, 4)) for p in flat(parts[0].prompt, 0, 1).pieces]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a cat", [("a cat", 1)]),
        ("a (cat) b", [("a ", 1), ("cat", 1.1), (" b", 1)]),
        ("((a:1.2) b:1.5)", [("a", 1.2), (" b", 1.5)]),  # numbers are whole weights, whatever is around them
        ("((a) b:1.5)", [("a", 1.65), (" b", 1.5)]),
        ("(((a)))", [("a", 1.331)]),
        ("[a] [b|c] [d:e:0.5]", [("[a] [b|c] [d:e:0.5]", 1)]),
        ("a AND b BREAK c", [("a AND b BREAK c", 1)]),
        ("<lora:x:1> 16:9", [("<lora:x:1> 16:9", 1)]),
        ("(embedding:x:0.8), embedding:y", [("embedding:x", 0.8), (", embedding:y", 1)]),
        (r"\(a\) (\(b\):1.3) c\d", [("(a) ", 1), ("(b)", 1.3), (r" c\d", 1)]),
        ("(a", [("(a", 1)]),
        ("a) (b)", [("a) (b)", 1)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:-0.5)", [("a", -0.5)]),
        ("()", []),
    ],
)
def test_comfyui(text: str, pieces: Pieces) -> None:
    assert read(comfy.translated, text) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a cat, a dog", [("a cat, a dog", 1)]),
        ("(cat)1.3", [("cat", 1.3)]),
        ("a dog++ runs", [("a ", 1), ("dog", 1.21), (" runs", 1)]),
        ("cat-, dog--", [("cat", 0.9), (", ", 1), ("dog", 0.81)]),
        ("(picking apricots+)++ now", [("picking ", 1.21), ("apricots", 1.331), (" now", 1)]),
        ("(a (b)0.5 c)1.2", [("a ", 1.2), ("b", 0.6), (" c", 1.2)]),
        ("(a sunset) over it", [("a sunset over it", 1)]),
        ('"two words"- here', [("two words", 0.9), (" here", 1)]),
        ("(x).attend(1.5) y.attend(++)", [("x", 1.5), (" ", 1), ("y", 1.21)]),
        ("a blue-green sea, a+b", [("a blue-green sea, a+b", 1)]),
        (r"\(a\) b\+", [("(a) b+", 1)]),
        ("[a] AND (b:1.3) BREAK", [("[a] AND b:1.3 BREAK", 1)]),
        ("<easynegative> (<x-2>)1.2", [("embedding:easynegative ", 1), ("embedding:x-2", 1.2)]),
        ("(open", [("(open", 1)]),
        ("", []),
    ],
)
def test_invokeai(text: str, pieces: Pieces) -> None:
    assert read(from_compel, text) == pieces


def test_prompts_that_invokeai_encodes_apart() -> None:
    lost: list[str] = []
    prompt = parse(from_compel('("a cat", "b, dog++").and(1, 0.5)', lost))
    pieces = flat(prompt.parts[0].prompt, 0, 1).pieces
    assert [(p.text.strip(), round(p.weight, 4)) for p in pieces if p.text.strip()] == [
        ("a cat", 1), ("b,", 0.5), ("dog", 0.605)
    ]  # fmt: skip
    assert [p.breaks for p in pieces].count(True) == 1
    assert from_compel('("a", "b").and()', lost) == "a BREAK b"
    assert lost == []


@pytest.mark.parametrize(
    ("text", "prompt", "said"),
    [
        ('("a", "b").blend(3, 1)', "a :0.75 AND b :0.25", "the blend of prompts, of which AND is the nearest here"),
        ("a cat.swap(dog) runs", "a cat runs", "the swap for dog"),
        ('("a", "b").and(1)', "a BREAK b", "the 1 weights of 2 prompts in .and()"),
        ("(a)1000", "a", "the weight 1000 of 'a'"),
    ],
)
def test_what_invokeai_says_and_this_project_cannot(text: str, prompt: str, said: str) -> None:
    lost: list[str] = []
    assert from_compel(text, lost) == prompt
    assert lost == [said]


def test_loras_in_prompts_of_invokeai() -> None:
    assert compel.translated("a cat withLora(ink,0.5) useLora(x)", []) == ("a cat", [("ink", 0.5), ("x", 1.0)])


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("{a}, [b]", [("a", 1.05), (", ", 1), ("b", 0.9524)]),
        ("{{a {b}}} c", [("a ", 1.1025), ("b", 1.1576), (" c", 1)]),
        ("1.5::a:: b, -2::c", [("a", 1.5), (" b, ", 1), ("c", -2)]),
        ("(a:1.3) AND b", [("(a:1.3) AND b", 1)]),
        ("{a", [("a", 1.05)]),
    ],
)
def test_novelai(text: str, pieces: Pieces) -> None:
    assert read(novelai.translated, text) == pieces


def test_weights_that_are_no_numbers_are_said() -> None:
    lost: list[str] = []
    assert comfy.translated("(a:nan) (b:inf) (c:1e9)", lost) == "a b c"
    assert lost == ["the weight nan of 'a'", "the weight inf of 'b'", "the weight 1e+09 of 'c'"]


signs = st.text(st.sampled_from('ab (){}[]":;,.+-=\\|<>12'), max_size=40)


@given(signs, st.sampled_from([comfy.translated, from_compel, novelai.translated]))
def test_any_text_becomes_a_prompt(text: str, translated: Callable[[str, list[str]], str]) -> None:
    parse(translated(text, []))


@given(st.text(st.sampled_from('ab [|]:<>AND\\"'), max_size=30))
def test_what_has_no_meaning_in_comfyui_is_text(text: str) -> None:
    assert "".join(t for t, _ in read(comfy.translated, text)) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "(" * 20_000,
        "(" * 9_999 + "a" + ")" * 9_999,
        '"' * 20_000,
        "a+ " * 6_000,
        "{" * 20_000,
        "((" * 3000 + "a)" * 3000,
    ],
)
def test_long_prompts_are_read_at_once(text: str) -> None:
    began = time.process_time()
    for translated in (comfy.translated, from_compel, novelai.translated):
        translated(text, [])
    assert time.process_time() - began < 3  # it takes a tenth of that
