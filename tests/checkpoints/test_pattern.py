"""Expressions of other tools' files mean what they mean to Python's `re`, and none runs away."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom.checkpoints.pattern import PatternTable
from darkroom.errors import InputError


def by_re(pattern: str, name: str) -> bool:
    """As PEFT compares them."""
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


PLACES = ("^", "$", r"\b", r"\A", r"\Z")
FORMS = ["{}({})*", "({}|{})", "(?:{})?{}", "{}|{}", "(?={}){}", "(?!{}){}", "(?:{}){{1,3}}{}"]
atoms = st.sampled_from(
    ["a", "b", ".", r"\.", r"\d", r"\w", "[ab]", "[^a.]", "[0-9]", "^", "$", "_", r"\b", r"\A", r"\Z"]
)
patterns = st.recursive(
    st.lists(
        st.tuples(atoms, st.sampled_from(["", "", "", "*", "+", "?", "+?", "{2}", "{1,2}", "{,1}?"])),
        min_size=1,
        max_size=5,
    ).map(lambda parts: "".join(a + (q if a not in PLACES else "") for a, q in parts)),
    lambda inner: st.tuples(inner, inner, st.sampled_from(FORMS)).map(lambda three: three[2].format(*three[:2])),
    max_leaves=4,
)


@given(patterns, st.text("ab.1_", max_size=8))
@settings(max_examples=150, deadline=None)
def test_agrees_with_re(pattern: str, name: str) -> None:
    found = PatternTable({pattern: True}, "table").first(name, False)
    assert found == by_re(pattern, name)


def test_the_first_that_matches_counts() -> None:
    table = PatternTable({"attn1.to_k": 1, "to_k": 2, "^to_q": 3, "to_.": 4}, "table")
    assert [table.first(n) for n in ("x.attn1.to_k", "x.attn2.to_k", "to_q", "x.to_q", "to_out")] == [1, 2, 3, 4, None]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (r"(?!mid).*to_k", ["up.to_k", "mid.to_k", "to_k"]),
        (r"(?=up|down).*\.to_[qk]", ["up.0.to_k", "mid.0.to_q", "down.to_v"]),
        (r"to_(?<=\.to_)k", ["up.to_k", "to_k", "x.to_q"]),
        (r"(?<!attn1\.)to_k", ["attn1.to_k", "attn2.to_k"]),
        (r"blocks\.\d{1,2}\.to_k", ["blocks.1.to_k", "blocks.11.to_k", "blocks.111.to_k"]),
        (r"(?P<side>up|down)\..*", ["up.0", "down.1", "mid.2"]),
        (r"\Bo_k|.*\bto_q\b", ["to_k", "x.to_q", "xto_q", "x.o_k"]),
    ],
)
def test_looks_places_and_counts_are_those_of_re(pattern: str, names: list[str]) -> None:
    table = PatternTable({pattern: True}, "table")
    assert [table.first(n, False) for n in names] == [by_re(pattern, n) for n in names]


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(",
            "a)",
            "*a",
            "[a",
            "\\",
            "(?i)a",
            "(?P<n>a)(?P=n)",
            r"(a)\1",
            "a*+",
            "a**",
            "a{1000000}",
            "a{3,2}",
            "a{x}",
        ),
        "(" * 50 + ")" * 50,
    ],
)
def test_what_is_not_read_is_named(pattern: str) -> None:
    with pytest.raises(InputError, match="table: the pattern"):
        PatternTable({pattern: 1}, "table")


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "(((a*)*)*)*b",
        ".*.*.*.*.*.*.*.*b",
        "((((.*a)*x)*b)*_)*c",
        "((((){99}){99}){99}){99}",
        "(?=(?=(?=.*a)*.*)*.*)*b",
    ],
)
def test_hostile_expressions_end(pattern: str) -> None:
    """Python's `re` would not."""
    started = time.process_time()
    table = PatternTable({pattern: 1}, "table")
    try:
        found = [table.first("ab_x" * 25 + str(i)) for i in range(300)]
    except InputError as error:
        found = [str(error)]
    assert time.process_time() - started < 10
    assert found == [None] * 300 or "table: its patterns take more than" in str(found[0])


def test_comparing_has_a_budget() -> None:
    table = PatternTable({"(a+b)+": 1}, "table")
    table.steps = 100
    with pytest.raises(InputError, match="table: its patterns take more than"):
        table.first("ab" * 20)
    with pytest.raises(InputError, match="table: its patterns take more than"):
        PatternTable({f"{i}(((.*a)*b)*x)*": 1 for i in range(20_000)}, "table")
