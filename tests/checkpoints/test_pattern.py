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


atoms = st.sampled_from(["a", "b", ".", r"\.", r"\d", r"\w", "[ab]", "[^a.]", "[0-9]", "^", "$", "_"])
patterns = st.recursive(
    st.lists(st.tuples(atoms, st.sampled_from(["", "", "", "*", "+", "?", "+?"])), min_size=1, max_size=5).map(
        lambda parts: "".join(a + (q if a not in "^$" else "") for a, q in parts)
    ),
    lambda inner: st.tuples(inner, inner, st.sampled_from(["{}({})*", "({}|{})", "(?:{})?{}", "{}|{}"])).map(
        lambda three: three[2].format(*three[:2])
    ),
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


@pytest.mark.parametrize("pattern", ["(", "a)", "*a", "[a", "\\", "(?=a)", "a{1000000}", r"\Z", "(" * 50 + ")" * 50])
def test_what_is_not_read_is_named(pattern: str) -> None:
    with pytest.raises(InputError, match="table: the pattern"):
        PatternTable({pattern: 1}, "table")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(((a*)*)*)*b", ".*.*.*.*.*.*.*.*b", "((((.*a)*x)*b)*_)*c"])
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
