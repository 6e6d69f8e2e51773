"""`darkroom data check`, called as a user would."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from darkroom.cli.app import app
from darkroom.errors import InputError


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["data", "check", *map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("layout", ["folder", "kohya"])
def test_a_check_reports_and_lists_what_is_clean(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / ("3_cat" if layout == "kohya" else "")
    folder.mkdir(parents=True)
    for name, size in (("a.png", (200, 100)), ("b.png", (20, 100))):
        Image.effect_noise(size, 50).convert("RGB").save(folder / name)
    (folder / "a.txt").write_text("a red cat")
    (folder / "b.txt").write_text("a red zebra")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "pictures").rglob("*")}
    said = run(tmp_path / "pictures", "-o", tmp_path / "report", "--resolution", 128, "--system", "picturebook")
    assert "2 pictures, 1 without a fault" in said
    assert "b.png: 20x100 pixels, at least 64 a side expected" in said
    assert "b.png: words that the model does not know: zebra" in said
    assert (tmp_path / "report" / "clean.txt").read_text() == ("3_cat/" if layout == "kohya" else "") + "a.png\n"
    assert (tmp_path / "report" / "report.txt").read_text().splitlines()[0] == "2 pictures, 1 without a fault"
    with Image.open(tmp_path / "report" / "contact.jpg") as sheet:
        assert sheet.width == 1280
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "pictures").rglob("*")} == before


def test_a_check_says_what_it_did_not_read_and_how_it_took_the_folders(tmp_path: Path) -> None:
    for i, name in enumerate(["10_cat/a.png", ".cache/b.png"]):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (64, 64), (90 * i, 0, 0)).save(tmp_path / name)
    (tmp_path / "10_cat" / "c.heic").touch()
    kohya = run(tmp_path, "--resolution", 64).strip().splitlines()
    assert kohya[:2] == ["1 picture, 1 without a fault", "passed over: 1 file (.heic 1)"]  # the folder says its caption
    (tmp_path / "regular").mkdir()
    plain = run(tmp_path, "--resolution", 64).strip().splitlines()
    assert plain[1].startswith("read as one folder, each picture once: 10_cat is named as kohya's N_class, but regular")
    assert plain[2] == "passed over: 1 file (.heic 1)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "there is no folder none"),
        (["."], "holds no pictures"),
        ([".", "--shapes", "round"], "the buckets: shapes is 'round', accepted are: "),
        ([".", "--resolution", 100], "resolution is 100"),
        ([".", "--system", "sd9"], "unknown system 'sd9'"),
    ],
)
def test_checks_that_cannot_be(
    arguments: list[object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run(*arguments)
