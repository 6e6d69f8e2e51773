"""Damaged and hostile checkpoints through the command: one sentence that names file and cause, status 2, soon."""

import io
import json
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from darkroom.cli import main

HANG = 10  # seconds of processor time; a second is what is promised of a usual machine


class Touch:
    """Unpickled by Python, this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


GOOD = save({"a": torch.ones(64, 64), "b": torch.zeros(5)})


def described(**tensors: dict[str, Any]) -> bytes:
    """A file whose header says so, with 64 bytes behind it."""
    header = json.dumps(tensors).encode()
    return len(header).to_bytes(8, "little") + header + bytes(64)


def f32(shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


FILES = {
    "empty": (b"", "is empty"),
    "cut": (GOOD[:-100], "truncated download"),
    "cut in the header": (GOOD[:40], "truncated or not a safetensors file"),
    "header of petabytes": ((1 << 50).to_bytes(8, "little") + GOOD[8:], "announces a header of"),
    "tensor of exabytes": (described(a=f32([1 << 30, 1 << 30], 0, 64)), "needs 4611686018427387904 bytes"),
    "tensor beyond the end": (described(a=f32([1 << 40], 0, 1 << 42)), "truncated download"),
    "overlap": (described(a=f32([12], 0, 48), b=f32([12], 16, 64)), "overlap"),
    "hole": (described(a=f32([4], 0, 16), b=f32([4], 48, 64)), "belong to no tensor"),
    "archive cut": (pickled({"a": torch.ones(64, 64)})[:-200], "truncated zip file"),
    "no weights": (pickled({"a": 1}), "holds no tensors"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "is a web page"),
    "reserved by a download": (bytes(9000), "nothing but zeros"),
    "other tensors": (GOOD, "not those of a denoiser"),
}


def complaint(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["darkroom", *arguments])
    started = time.process_time()
    with pytest.raises(SystemExit) as caught:
        main()
    assert time.process_time() - started < HANG
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.out == ""
    assert output.err.startswith("darkroom: ")
    assert output.err.count("\n") == 1
    return output.err


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, cause = FILES[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for command in (
        ["inspect", str(path), "--no-hash"],
        ["generate", "x", "-m", str(path), "-o", str(tmp_path)],
        ["convert", str(path), str(tmp_path / "folder"), "--layout", "diffusers"],
        ["generate", "x", "--vae", str(path), "-o", str(tmp_path)],
    ):
        said = complaint(capsys, monkeypatch, *command)
        assert str(path) in said
        assert cause in said or (name == "other tensors" and "holds no first stage" in said)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_files_that_would_run_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = Touch(tmp_path / "executed")
    for name, content in (
        ("m.ckpt", pickled({"state_dict": {"w": torch.ones(2)}, "callbacks": evil})),
        ("m.bin", pickle.dumps(evil)),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        said = complaint(capsys, monkeypatch, "generate", "x", "-m", str(path), "-o", str(tmp_path))
        assert str(path) in said
        assert "malicious" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.bin", "m.ckpt"]


def test_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    assert "holds no model_index.json" in complaint(capsys, monkeypatch, "inspect", str(folder))
    (folder / "model_index.json").write_text("{}")
    assert "unet holds no weights" in complaint(capsys, monkeypatch, "inspect", str(folder))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(GOOD[:-7])
    said = complaint(capsys, monkeypatch, "generate", "x", "-m", str(folder), "-o", str(tmp_path))
    assert str(weights) in said
    assert "truncated download" in said


def test_what_stands_in_a_file_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "lora_unet_x\x1b[2J"
    path = tmp_path / "x.safetensors"
    path.write_bytes(save({f"{key}.lora_down.weight": torch.ones(1, 2), f"{key}.unknown\x1b[31m": torch.ones(1)}))
    monkeypatch.setattr(sys, "argv", ["darkroom", "inspect", str(path), "--no-hash"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())
    said = complaint(capsys, monkeypatch, "inspect", str(tmp_path / "absent\x1b[2J.safetensors"))
    assert "\x1b" not in said
