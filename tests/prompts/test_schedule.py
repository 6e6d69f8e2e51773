import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from darkroom.conditioning.weighted_text import Piece, WeightedText
from darkroom.prompts.grammar import parse
from darkroom.prompts.schedule import Wording, flat
from darkroom.prompts.tree import Alternate, Edit, Node, Sentence, Text, Weighted


def sentence(text: str) -> Sentence:
    (part,) = parse(text).parts
    return part.prompt


def changes(sentence: Sentence, total: int, former: int = 0) -> list[int]:
    return Wording(sentence, total, former).changes()


def said(text: str, total: int) -> list[str]:
    return [flat(sentence(text), step, total).text for step in range(total)]


def test_weights_multiply_out() -> None:
    found = flat(sentence("a (b (c:2) [d:e:0.5]:1.5) f"), 0, 10)
    assert found == WeightedText((Piece("a "), Piece("b ", 1.5), Piece("c", 3.0), Piece(" d", 1.5), Piece(" f")))
    assert not found.plain
    assert flat(sentence(" plain  words "), 0, 1) == WeightedText((Piece("plain  words"),))


def test_breaks_are_kept() -> None:
    found = flat(sentence("a BREAK (b:1.2)"), 0, 1)
    assert found.pieces == (Piece("a "), Piece(" ", breaks=True), Piece("b", 1.2))


def test_editing_counts_as_a1111_does() -> None:
    """Its table begins with step 1 and is looked up by the step from 0, so 3 means four steps."""
    assert said("[a:b:3]", 8) == ["a"] * 4 + ["b"] * 4
    assert said("[a:b:0.5]", 8) == ["a"] * 5 + ["b"] * 3
    assert said("[b:0]", 3) == ["b"] * 3
    assert said("x[a::2]", 4) == ["xa", "xa", "xa", "x"]
    assert said("[a:b:100]", 4) == ["a"] * 4
    assert said("[a:[b:c:0.75]:0.25]", 8) == ["a"] * 3 + ["b"] * 4 + ["c"]


def test_a_second_pass_counts_on() -> None:
    """A1111 1.6 and later: 0.5 and 3 lie in the first pass of four steps, 1.5 and 6 in the second."""

    def second(text: str) -> list[str]:
        return [flat(sentence(text), step, 8, former=4).text for step in range(8)]

    assert second("[a:b:0.5]") == second("[a:b:3]") == second("[a:b:4]") == ["b"] * 8
    assert second("[a:b:1.5]") == ["a"] * 5 + ["b"] * 3
    assert second("[a:b:6]") == ["a"] * 3 + ["b"] * 5
    assert changes(sentence("[a:b:6]"), 8, former=4) == [3]


def test_alternation_goes_round() -> None:
    assert said("[a|b|c]", 7) == ["a", "a", "b", "c", "a", "b", "c"]


def test_changes_are_where_the_text_is_another() -> None:
    assert changes(sentence("a (b:2)"), 10) == []
    assert changes(sentence("[a:b:3] and ([c:d:5])"), 10) == [4, 6]
    assert changes(sentence("[a|b]"), 5) == [2, 3, 4]
    assert changes(sentence("[a|a]"), 5) == []


def walked(nodes: tuple[Node, ...], count: int, total: int, weight: float = 1.0) -> list[tuple[str, float]]:
    """The letters at the step `count`, from 1 on, and their weights, by the rules read one by one."""
    found: list[tuple[str, float]] = []
    for node in nodes:
        match node:
            case Text(text):
                found += [(letter, weight) for letter in text]
            case Weighted(inside, own):
                found += walked(inside, count, total, weight * own)
            case Alternate(options):
                found += walked(options[(count - 1) % len(options)], count, total, weight)
            case Edit(before, after, when, share):
                end = min(total, int(when * total if share else when))
                found += walked(before if count <= end else after, count, total, weight)
    return found


FRAGMENTS = ["[", "]", "|", ":", "3", ":0.5]", "a", "b", "c", "(", ":2)", ")", "[a|b]", "[x:y:4]", "[[a|b|]|c:2]"]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join))
@example("[[a|b]|c|[d:e:5]]([x:[y|z]:0.5]:2)")
def test_each_step_says_what_the_rules_say(text: str) -> None:
    read, total = sentence(text), 9
    wording = Wording(read, total)
    before = wording.at(0)
    for step in range(total):
        found = wording.at(step)
        assert [(x, p.weight) for p in found.pieces for x in p.text] == walked(read.nodes, max(step, 1), total)
        assert step in wording.changes() or found == before
        before = found


def nested(depth: int) -> str:
    return "[" * depth + "a" + "".join(f"|b{i}]" for i in range(depth))


@pytest.mark.parametrize(
    "text",
    [
        "[a|b]" * 4000,
        "[a|b][a|b|c][a|b|c|d|e][a|b|c|d|e|f|g]" * 500,
        "".join(f"[a:{i % 1000}]" for i in range(2500)),
        f"{nested(60)} " * 60,
        " AND ".join(["[a|b]"] * 1900),
    ],
    ids=["alternations", "unlike periods", "edits", "nested", "parts"],
)
def test_long_prompts_of_a_thousand_steps_take_little_time(text: str) -> None:
    """All that must be known before the first step, and the words of the first steps."""
    began = time.process_time()
    for part in parse(text[:20_000]).parts:
        wording = Wording(part.prompt, 1000)
        assert len(wording.changes()) == 998
        assert len({wording.at(step) for step in range(10)}) > 1
    assert time.process_time() - began < 3  # under half a second on an idle machine, 14 once
