"""`darkroom merge`: what is typed, what is said, and which mistakes are named before anything is read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from darkroom.cli import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["darkroom", "merge", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_paths_may_hold_what_stands_before_the_weight(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "steps=5").symlink_to(tiny_folder)
    out = tmp_path / "mix"
    assert run(monkeypatch, out, f"{tmp_path / 'steps=5'}=1.5", f"{tiny_folder}=-0.5", "--dtype", "fp16") == 0
    assert capsys.readouterr().out == f"tiny: steps=5 1.5, tiny -0.5 -> {out}\n"
    name = "conv_in.weight"
    before, after = (load_file(folder / "unet.safetensors")[name] for folder in (tiny_folder, out))
    assert torch.equal(after, (before * 1.5 + before * -0.5).half())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "a=1"], "only a=1 is given; a merge takes two parts or more"),
        (["x", "a", "b=1"], "the part is 'a', expected is PART=WEIGHT, its weight a finite number other than 0"),
        (["x", "=1", "b=1"], "the part is '=1', expected is PART=WEIGHT"),
        (["x", "a=b", "b=1"], "the part is 'a=b', expected is PART=WEIGHT"),
        (["x", "a=0", "b=1"], "the part is 'a=0', expected is PART=WEIGHT"),
        (["x", "a=nan", "b=1"], "the part is 'a=nan', expected is PART=WEIGHT"),
        (["x", "a=1", "b=inf"], "the part is 'b=inf', expected is PART=WEIGHT"),
        (["x", "a=1", "b=1", "--dtype", "fp8"], "unknown dtype 'fp8'; known are: fp32, fp16, bf16"),
        (["x", "nosuch=1", "b=1"], "there is no model 'nosuch'"),
        (["x", "picturebook-turbo=1", "picturebook-turbo=1", "--rank", "0"], "the rank is 0, expected is 1 or more"),
        (["x", "picturebook=0.5", "picturebook-turbo=0.5"], "picturebook-turbo is a folder of this project that chang"),
        (["x", "picturebook=0.5", "picturebook=0.5", "--rank", "4"], "a rank is given for LoRAs; picturebook is a"),
        (["x", "picturebook=0.5", "picturebook=0.4"], "the weights sum to 0.9, expected is 1"),
    ],
)
def test_mistakes_get_one_sentence(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
