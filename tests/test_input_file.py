"""Files that others wrote: what is no file is refused without waiting, what is too large without reading."""

import os
from pathlib import Path

import pytest

from darkroom.errors import InputError
from darkroom.input_file import entries, open_input, read_bytes, read_text


def test_text_is_read_as_other_tools_write_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa cat\r\na dog\rcaf\xc3\xa9\n")
    assert read_text(path) == "a cat\na dog\ncafé\n"
    assert read_text(Path(os.devnull)) == ""


@pytest.mark.parametrize("name", ["pipe", "folder", "loop", "zero", "absent", "denied", "nul\0", "n" * 256, "\ud800"])
def test_what_is_no_file_is_named_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "denied").write_text("x")
    (tmp_path / "denied").chmod(0)
    if name == "denied" and os.access(tmp_path / name, os.R_OK):
        pytest.skip("the administrator may read everything")
    expected = {"pipe": "is a pipe", "folder": "is a folder", "zero": "is a pipe or a device", "absent": "there is no"}
    with pytest.raises(InputError, match=expected.get(name, "cannot be read")) as raised:
        open_input(tmp_path / name)
    assert str(raised.value).isprintable()


def test_sizes_are_looked_at_first(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    assert read_bytes(path, 4) == b"1234"
    with pytest.raises(InputError, match="has 4 bytes, accepted are at most 3"):
        read_bytes(path, 3)
    os.truncate(path, 1 << 40)  # sparse: it takes no room
    with pytest.raises(InputError, match="has 1099511627776 bytes"):
        read_text(path)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux")
def test_a_file_that_changes_is_named() -> None:
    with pytest.raises(InputError, match="changes while it is read"):  # it holds more than the size that it states
        read_bytes(Path("/proc/self/stat"), 100)


def test_what_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"ab\xff")
    with pytest.raises(InputError, match=r"a is not UTF-8 text \(byte 2\)"):
        read_text(tmp_path / "a")


def test_entries_of_folders_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    assert [p.name for p in entries(tmp_path)] == ["a", "b"]
    for name in ("a", "absent", "nul\0", "n" * 256):
        with pytest.raises(InputError, match="cannot be read"):
            entries(tmp_path / name)
