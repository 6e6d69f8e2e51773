from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.cli.output import Output
from darkroom.errors import InputError

PIXELS = np.full((8, 8, 3), 200, np.uint8)


def test_one_named_file_takes_the_place_of_another(tmp_path: Path) -> None:
    output = Output(tmp_path / "new" / "cow.jpg")
    output.check()
    for _ in range(2):
        assert output.write(0, 1, PIXELS, "a cow", 0) == tmp_path / "new" / "cow.jpg"
    assert Image.open(tmp_path / "new" / "cow.jpg").format == "JPEG"
    assert len(list((tmp_path / "new").iterdir())) == 1


def test_several_pictures_of_one_name_are_numbered_and_new(tmp_path: Path) -> None:
    output = Output(tmp_path / "cow.png")
    (tmp_path / "cow-1.png").write_text("mine")
    assert output.first_number() == 0
    names = [output.write(i, 3, PIXELS, "", 0).name for i in range(3)]
    assert names == ["cow-0.png", "cow-2.png", "cow-3.png"]
    assert (tmp_path / "cow-1.png").read_text() == "mine"


def test_a_folder_counts_on(tmp_path: Path) -> None:
    output = Output(tmp_path / "v1.5", "webp")
    output.check()
    assert output.write(output.first_number(), 1, PIXELS, "", 7).name == "00000-7.webp"
    assert output.first_number() == 1
    (tmp_path / "folder.png").mkdir()
    assert Output(tmp_path / "folder.png").write(0, 1, PIXELS, "", 7) == tmp_path / "folder.png" / "00000-7.png"


def test_frames_become_one_file(tmp_path: Path) -> None:
    for ending in ("gif", "webp", "png"):
        output = Output(tmp_path / f"film.{ending}")
        output.check(frames=True)
        assert output.animates()
        output.write_animation([PIXELS, PIXELS // 2, PIXELS // 4], "a cow", 8.0)
        assert Image.open(output.path).n_frames == 3  # type: ignore[attr-defined]
    assert not Output(tmp_path / "film.jpg").animates()
    assert not Output(tmp_path).animates()


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("cow.gif", None, "unknown format 'gif'; known are: png, jpg, jpeg, webp"),
        ("cow.png", "jpg", "--format jpg is another format than that of"),
        ("out", "tga", "unknown format 'tga'"),
    ],
)
def test_what_cannot_be_written(path: str, form: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        Output(tmp_path / path, form).check()
    Output(tmp_path / "cow.jpeg", "jpg").check()
    assert list(tmp_path.iterdir()) == []
