"""Where pictures are written."""

import os
from pathlib import Path

import numpy as np
import pytest

from darkroom.errors import InputError
from darkroom.pictures.picture_file import check_writable, write_picture

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


def test_folders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/out cannot be made: Not a directory"):
        check_writable(tmp_path / "file" / "out")
    if os.geteuid():  # root may write anywhere
        tmp_path.chmod(0o500)
        with pytest.raises(InputError, match="cannot be made: Permission denied"):
            check_writable(tmp_path / "out")
