import pytest

from darkroom.errors import printable


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
