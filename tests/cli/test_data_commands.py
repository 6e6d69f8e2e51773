"""`darkroom data`, called as a user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from darkroom.cli.app import app
from darkroom.data.picturebook.prompts import read_prompts
from darkroom.errors import InputError


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["data", *map(str, arguments)], catch_exceptions=True)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_preview_writes_a_sheet(tmp_path: Path) -> None:
    for name, kind in (("a.png", "PNG"), ("b.jpg", "JPEG"), ("c", "PNG")):
        assert str(tmp_path / name) in run("preview", "-o", tmp_path / name, "--count", 2, "--size", "64x48").replace(
            "\n", ""
        )
        assert Image.open(tmp_path / name).format == kind
    wide = Image.open(tmp_path / "a.png").width
    run("preview", "-o", tmp_path / "a.png", "--count", 2, "--size", "64x48", "--no-maps")
    assert Image.open(tmp_path / "a.png").width < wide
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("things", "counts"), [("1", {1}), ("2", {2}), ("1-2", {1, 2}), ("1-4", {1, 2, 3, 4})])
def test_prompts_are_listed(tmp_path: Path, things: str, counts: set[int]) -> None:
    path = tmp_path / "p.jsonl"
    run("prompts", "--seed", 5, "--count", 40, "--things", things, "-o", path)
    prompts = read_prompts(path)
    assert len(prompts) == 40
    assert {sum(g.count for g in p.facts.groups) for p in prompts} == counts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preview", "--size", "256"], "the size is '256', expected is WIDTHxHEIGHT"),
        (["preview", "--size", "4x4"], "4x4 cannot be painted"),
        (["preview", "--size", "64x0"], "the size is '64x0'"),
        (["preview", "--size", "1x99999"], "1x99999"),
        (["preview", "--count", "0"], "the number of scenes is 0, expected is at least 1"),
        (["preview", "--seed", "-1"], "the seed is -1"),
        (["preview", "--count", "999999999"], "too large"),
        (["preview", "-o", "a.gif"], "ends in '.gif'"),
        (["preview", "-o", "none/a.png"], "none/a.png cannot be written: No such file or directory"),
        (["preview", "-o", "."], "not a regular file"),
        (["prompts", "--seed", "0", "--count", "0", "-o", "p"], "the number of prompts is 0"),
        (["prompts", "--seed", "-3", "--count", "1", "-o", "p"], "the seed is -3"),
        (["prompts", "--seed", "0", "--count", "1", "--things", "two", "-o", "p"], "the number of things is 'two'"),
        (["prompts", "--seed", "0", "--count", "1", "--things", "2-9", "-o", "p"], "2-9, expected is within 1-4"),
        (["prompts", "--seed", "0", "--count", "1", "-o", "none/p"], "none/p cannot be written"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_real_process_ends_with_one_sentence_and_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "darkroom", "data", "preview", "-o", "none/a.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert done.stderr == "darkroom: none/a.png cannot be written: No such file or directory\n"
