"""The token of the server, as its folder keeps it."""

from pathlib import Path

import pytest

from darkroom.cli.serve import Address
from darkroom.errors import InputError


def test_it_is_made_once(tmp_path: Path) -> None:
    token = Address().secret(tmp_path)
    assert len(token) >= 32
    assert Address().secret(tmp_path) == token
    assert Address(token="said instead").secret(tmp_path) == "said instead"


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 20, "ä".encode() * 20, b"a\x1b[2J" * 9])
def test_a_file_that_holds_none_is_named(content: bytes, tmp_path: Path) -> None:
    """An empty one would let everybody in."""
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(InputError, match=r"token (holds no token of at least 8 letters; remove it|is not UTF-8)"):
        Address().secret(tmp_path)
