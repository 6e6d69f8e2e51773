import json
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from darkroom.errors import InputError, cause, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a cat, 猫 é", "a cat, 猫 é"),
        ("a\x1b[31mb\nc\td\r", "a\\x1b[31mb\\nc\\td\\r"),
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
        ("\udcff\U000e0001\x9b", "\\udcff\\U000e0001\\x9b"),
        ("x" * 81, "x" * 80 + "…"),
        (7, "7"),
    ],
)
def test_texts_from_files_cannot_steer_a_terminal(text: object, shown: str) -> None:
    assert printable(text) == shown


NONE: Any = None


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (lambda: open("/none/a"), "No such file or directory"),  # noqa: SIM115
        (lambda: json.loads("{"), "expecting property name enclosed in double quotes in line 1, column 2"),
        (lambda: json.loads("[" * 100_000), "it is nested too deeply"),
        (lambda: json.loads("1" * 5000), "a number has too many digits"),
        (lambda: tomllib.loads("x = 1" + "1" * 5000), "a number has too many digits"),
        (lambda: b"a\xff".decode(), "it is not UTF-8 text (byte 1)"),
        (lambda: "\udcff".encode(), "a text holds what is no character"),
        (lambda: {}["a\x1b"], "a\\x1b is missing"),
        (lambda: [][1], "a list is shorter than expected"),
        (lambda: int("1.5"), "'1.5' is no whole number"),
        (lambda: float("x"), "'x' is no number"),
        (lambda: int(float("nan")), "a number is not finite"),
        (lambda: iter(NONE), "a value is of another type than expected"),
        (lambda: NONE.get, "a value is of another type than expected"),
        (lambda: 1 / 0, "its numbers do not fit each other"),
        (lambda: [a for a, b in [(1, 2, 3)]], "a list has another length than expected"),
    ],
)
def test_causes_are_said_without_what_only_python_knows(fails: Callable[[], object], said: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of any kind
        fails()
    assert cause(caught.value) == said


def test_a_cause_that_is_known_is_said_as_it_is() -> None:
    assert cause(InputError("steps is 0")) == "steps is 0"
    assert cause(RuntimeError("two\nlines " + "x" * 300)) == "two lines " + "x" * 190 + "…"
    stopped = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 182080 vs 181968")
    assert cause(stopped) == "the disk is full"
