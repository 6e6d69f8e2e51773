import contextlib
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from darkroom.errors import InputError
from darkroom.prompts.grammar import parse
from darkroom.prompts.schedule import flat
from darkroom.prompts.tree import Alternate, Break, Edit, LoraTag, Part, Prompt, Sentence, Text, Weighted

FRAGMENTS = ["(", ")", "[", "]", ":", "|", "\\", "<", ">", "AND", "BREAK", " ", "a", "cat", "1.3", "0.5", "7", ".", "-"]
FRAGMENTS += ["()", "[]", "A", "ND", "_"]
FRAGMENTS += ["<lora:x:1>", "<lora:y:.5:0.25>", "\n", ",", "1e5", "(x:1.2)", "[a:b:0.5]", "[a|b]", "<", "lora"]


def nodes(text: str) -> tuple[object, ...]:
    (part,) = parse(text).parts
    return part.prompt.nodes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", (Text("a cat"),)),
        ("a (cat)", (Text("a "), Weighted((Text("cat"),), 1.1))),
        ("((cat))", (Weighted((Weighted((Text("cat"),), 1.1),), 1.1),)),
        ("(cat:1.3)", (Weighted((Text("cat"),), 1.3),)),
        ("(a: cat :-.5 )", (Weighted((Text("a: cat "),), -0.5),)),
        ("[cat]", (Weighted((Text("cat"),), 1 / 1.1),)),
        ("[cat:1.3]", (Edit((), (Text("cat"),), 1.3, True),)),  # square brackets know no weights
        (r"\(cat\) \[x\] \\", (Text("(cat) [x] \\"),)),
        ("\\o/ (a:\\2) \\", (Text("o/ "), Weighted((Text("a:2"),), 1.1))),  # other backslashes vanish
        (r"A\ND B\REAK", (Text("AND BREAK"),)),
        ("[a|b:3] [a|b:c:3]", (Weighted((Text("a|b:3"),), 1 / 1.1), Text(" "), Weighted((Text("a|b:c:3"),), 1 / 1.1))),
        ("a()b (c:1()3)", (Text("ab "), Weighted((Text("c:13"),), 1.1))),  # empty brackets hold nothing, but part
        ("a cat: black", (Text("a cat: black"),)),
        ("[a:b:0.25]", (Edit((Text("a"),), (Text("b"),), 0.25, True),)),
        ("[b:7]", (Edit((), (Text("b"),), 7.0, False),)),
        ("[a::7]", (Edit((Text("a"),), (), 7.0, False),)),
        (
            "[(a:1.2):[b|c]:3]",
            (Edit((Weighted((Text("a"),), 1.2),), (Alternate(((Text("b"),), (Text("c"),))),), 3, False),),
        ),
        ("[cow|horse|]", (Alternate(((Text("cow"),), (Text("horse"),), ())),)),
        ("a BREAK b", (Text("a "), Break(), Text(" b"))),
        ("BREAKFAST", (Text("BREAKFAST"),)),
        ("a (b", (Text("a "), Weighted((Text("b"),), 1.1))),  # never closed: weighs the rest
        ("a) b]", (Text("a) b]"),)),  # never opened: text
        ("(a AND b)", (Weighted((Text("a AND b"),), 1.1),)),
    ],
)
def test_rules_one_by_one(text: str, expected: tuple[object, ...]) -> None:
    assert nodes(text) == expected


def two_stacks(text: str) -> list[tuple[str, float]]:
    """The weight of each letter by the definition of A1111's parser: brackets on a stack for each kind, a list of
    pieces, and a closing bracket multiplies the weights of all pieces since its opening."""
    pieces: list[list[Any]] = []
    rounds: list[int] = []
    squares: list[int] = []

    def multiply(start: int, factor: float) -> None:
        for piece in pieces[start:]:
            piece[1] *= factor

    for found in re.finditer(r"\(|\[|:\s*([+-]?[.\d]+)\s*\)|\)|]|[^()\[\]:]+|:", text):
        token = found[0]
        if token == "(":
            rounds.append(len(pieces))
        elif token == "[":
            squares.append(len(pieces))
        elif token[-1] == ")" and rounds:
            multiply(rounds.pop(), float(found[1] or 1.1))
        elif token == "]" and squares:
            multiply(squares.pop(), 1 / 1.1)
        else:
            pieces.append([token, 1.0])
    for start in rounds:
        multiply(start, 1.1)
    for start in squares:
        multiply(start, 1 / 1.1)
    return [(letter, weight) for token, weight in pieces for letter in token if letter.strip()]


def letters(text: str) -> list[tuple[str, float]]:
    (part,) = parse(text).parts
    return [(x, p.weight) for p in flat(part.prompt, 0, 1).pieces for x in p.text if x.strip()]


BRACKETS = ["(", ")", "[", "]", ":1.2)", ":0.7 )", "girl", "b", ",", " ", "[c]", "(d)"]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(BRACKETS), max_size=16).map("".join))
@example("(girl, :[, frown:1.2), sky")
@example("[a (b] c:1.2) d")
@example("[(a [b) c] d] e")
@example("((a] b)) [")
def test_brackets_weigh_across_each_other_as_in_a1111(text: str) -> None:
    found, expected = letters(text), two_stacks(text)
    assert [x for x, _ in found] == [x for x, _ in expected]
    assert [w for _, w in found] == pytest.approx([w for _, w in expected], rel=1e-12)


def test_square_brackets_that_others_close_across_only_weigh() -> None:
    """As in A1111, where editing and alternation take whole pairs of brackets only."""
    for text in ("([a):b:3]", "[a (b:c:3]", "[x) y:z:3]", "[x ([a) b] y:z:3]"):
        assert not any(isinstance(n, Edit) for n in nodes(text)), text
    assert isinstance(nodes("(a [b:c:3] [d) e]")[0], Weighted)
    assert "Edit" in str(nodes("(a [b:c:3] [d) e]"))


def test_weights_that_are_no_numbers_or_too_large_are_named() -> None:
    for weight in ("inf", "-inf", "nan", "Infinity", "1e999", "1000", "9" * 400):
        for text in (f"a (cat:{weight})", f"a [x (cat:{weight}) y]", f"a AND cat :{weight}"):
            with pytest.raises(InputError, match=r"the weight .* in .* is out of range, expected is -100 to 100"):
                parse(text)
    with pytest.raises(InputError, match=r"the weights around .* multiply to 1e\+06, accepted are 10000"):
        parse("(((cat:100):100):100)")
    assert nodes("(a: inf love)") == (Weighted((Text("a: inf love"),), 1.1),)


def test_and_splits_and_weighs() -> None:
    assert parse("a cat AND a dog :0.7 AND x:-2") == Prompt(
        (Part(Sentence((Text("a cat"),))), Part(Sentence((Text("a dog"),)), 0.7), Part(Sentence((Text("x"),)), -2.0))
    )
    assert len(parse("a BRAND new cat").parts) == 1


def test_loras_are_taken_out_of_the_text() -> None:
    found = parse("a <lora:my style:0.8> cat<lyco:b:0.5:0.25><lora:c:te=0.1:unet=2>")
    assert found.loras == (LoraTag("my style", 0.8, 0.8), LoraTag("b", 0.25, 0.5), LoraTag("c", 2.0, 0.1))
    assert found.parts == (Part(Sentence((Text("a  cat"),))),)
    assert parse(r"\<lora:x:1>").loras == ()
    for wrong in ("<lora:x:much>", "<lora:x:1:2:3>", "<hypernet:x:1>", "<lora:x:1e3>"):
        with pytest.raises(InputError, match=r"<(lora|hypernet):x"):
            parse(wrong)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join) | st.text(max_size=60))
@example("<lora:x:1>\\")
@example("(a:0.30000000000000004)")
@example("a()BREAK()b BREAK[]BREAK()AND A()ND BRE[]AK")
def test_any_text_parses_or_is_refused_and_prints_as_what_it_is(text: str) -> None:
    with contextlib.suppress(InputError):
        found = parse(text)
        assert parse(str(found)) == found


def test_errors_quote_no_more_than_a_line() -> None:
    for text in ("<lora:x:" + "1" * 10_000 + "y>", "(a:" + "1" * 10_000 + ")", "[a:" + "1" * 10_000 + "]", "\ud800"):
        with pytest.raises(InputError) as error:
            parse(text)
        assert len(str(error.value)) < 200


def test_long_and_deep_texts_are_refused_and_wide_ones_read() -> None:
    for text in ("x" * 100_000, "(" * 100, "[" * 65 + "a"):
        with pytest.raises(InputError, match=r"accepted are at most|nested more than"):
            parse(text)
    assert len(nodes("(a) " * 4999)) == 2 * 4999 - 1
    assert len(parse("a AND " * 3000 + "b").parts) == 3001
