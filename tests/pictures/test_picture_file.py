"""Where pictures are written."""

import os
import subprocess
import sys
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.errors import InputError
from darkroom.pictures.picture_file import (
    check_writable,
    next_number,
    numbered_paths,
    write_new_picture,
    write_picture,
)

PIXELS = np.zeros((8, 8, 3), np.uint8)


def test_a_folder_is_tried_and_nothing_stays_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    check_writable(tmp_path / "a" / "b")
    assert [p.name for p in tmp_path.rglob("*")] == ["a"]
    (tmp_path / "a" / "b").mkdir()
    write_picture(tmp_path / "a" / "b" / "c.png", PIXELS, "a cat")
    check_writable(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "c.png").is_file()


def test_a_folder_that_is_tried_is_never_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or else taking it away could come between another process's making it and writing there."""
    made: list[Path] = []
    mkdir = os.mkdir

    def watched(path: str, *rights: int) -> None:
        made.append(Path(path))
        mkdir(path, *rights)

    monkeypatch.setattr(os, "mkdir", watched)
    check_writable(tmp_path / "a" / "b")
    assert made
    assert all(path.parent == tmp_path and path.name.startswith(".darkroom-") for path in made)


def test_folders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be made: Not a directory"):
        check_writable(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be made: File name too long"):
        check_writable(tmp_path / ("a" * 300))
    with pytest.raises(InputError, match="file/out cannot be made: Not a directory"):
        check_writable(tmp_path / "file" / "out")
    for link, target, message in (("loop", "loop", "Too many levels"), ("gone", "none", "No such file")):
        os.symlink(tmp_path / target, tmp_path / link)
        with pytest.raises(InputError, match=f"{link} cannot be made: {message}"):
            check_writable(tmp_path / link)
    check_writable(tmp_path, "a" * 251 + ".png")
    with pytest.raises(InputError, match=r"a\.png cannot be written: File name too long"):
        check_writable(tmp_path, "a" * 252 + ".png")
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(InputError, match="cannot be made: Permission denied"):
            check_writable(tmp_path / "out")


WRITER = """
import sys, numpy as np
from pathlib import Path
from darkroom.pictures.picture_file import next_number, numbered_paths, write_new_picture
folder, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for i in range(40):
    paths = numbered_paths(folder, next_number(folder), "-0.png")
    print(write_new_picture(paths, np.zeros((4, 4, 3), np.uint8), f"{name} {i}"))
"""


def test_processes_that_write_to_one_folder_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "abc"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    outputs = [writer.communicate("go\n")[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    said = [line for output in outputs for line in output.split()]
    assert len(said) == len(set(said)) == 120
    assert sorted(map(str, tmp_path.iterdir())) == sorted(said)
    texts = {Image.open(path).info["parameters"] for path in tmp_path.iterdir()}
    assert texts == {f"{name} {i}" for name in "abc" for i in range(40)}


@pytest.mark.parametrize(
    ("names", "number"),
    [
        ((), 0),
        (("00007-1.png", "00003-9.webp", "x.png", "0009-1.png", "a00010-1.png"), 8),
        (("99999-0.png",), 100_000),
        (("99999-0.png", "100000-5.png"), 100_001),
    ],
)
def test_numbers_go_on_behind_the_highest(tmp_path: Path, names: tuple[str, ...], number: int) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert next_number(tmp_path) == number
    assert next_number(tmp_path / "absent") == 0
    path = write_new_picture(numbered_paths(tmp_path, number, "-7.png"), PIXELS, "")
    assert path == tmp_path / f"{number:05d}-7.png"


def test_a_new_picture_replaces_nothing_and_a_named_one_does(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i:05d}-7.png").write_text("kept")
    (tmp_path / "00003-7.png").symlink_to(tmp_path / "nowhere")
    assert write_new_picture(numbered_paths(tmp_path, 0, "-7.png"), PIXELS, "").name == "00004-7.png"
    assert [(tmp_path / f"{i:05d}-7.png").read_text() for i in range(3)] == ["kept"] * 3
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(InputError, match="a file of that name is there"):
        write_new_picture(iter([tmp_path / "00000-7.png"]), PIXELS, "")
    write_picture(tmp_path / "00000-7.png", PIXELS, "new")
    assert Image.open(tmp_path / "00000-7.png").info["parameters"] == "new"


def test_where_there_are_no_hard_links_names_are_still_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    (tmp_path / "00000-7.png").write_text("kept")
    assert write_new_picture(numbered_paths(tmp_path, 0, "-7.png"), PIXELS, "").name == "00001-7.png"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000-7.png", "00001-7.png"]
    assert Image.open(tmp_path / "00001-7.png").size == (8, 8)


def test_rights_are_those_of_the_umask_and_failures_leave_nothing(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_new_picture(repeat(tmp_path / "a.png"), PIXELS, "")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(InputError, match="unknown format 'gif'"):
        write_new_picture(repeat(tmp_path / "b.gif"), PIXELS, "")
    with pytest.raises(InputError, match="cannot hold 16384x1 pixels, WEBP takes 16383 a side"):
        write_picture(tmp_path / "b.webp", np.zeros((1, 16_384, 3), np.uint8), "")
    assert list(tmp_path.iterdir()) == [path]
