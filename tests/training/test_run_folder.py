"""Whose run a folder holds, and in which precision it goes on."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from darkroom.errors import InputError
from darkroom.training import run_folder
from darkroom.training.config import LoopConfig
from darkroom.training.run_folder import CHECKPOINT, claim, natural_precision, settled


@dataclass(frozen=True)
class Recipe:
    loop: LoopConfig
    width: int = 3


LOOP = LoopConfig(steps=1, batch_size=1, learning_rate=0.1)


def device_likes(half: torch.dtype | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "fast_half", lambda device: half)


@pytest.mark.parametrize(("half", "precision"), [(torch.bfloat16, "bf16"), (None, "fp32"), (torch.float16, "fp32")])
def test_a_new_run_takes_what_its_device_is_fast_in(
    half: torch.dtype | None, precision: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device_likes(half, monkeypatch)
    assert natural_precision("cpu") == precision
    assert settled(LOOP, tmp_path).precision == precision


def test_a_run_keeps_the_precision_that_it_began_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device_likes(torch.bfloat16, monkeypatch)
    began = settled(LOOP, tmp_path)
    claim(tmp_path, Recipe(LOOP), began)
    assert json.loads((tmp_path / "recipe.json").read_text())["loop"]["precision"] == "bf16"
    device_likes(None, monkeypatch)  # the next machine
    assert settled(LOOP, tmp_path).precision == "fp32"  # nothing to go on from yet
    (tmp_path / CHECKPOINT).touch()
    assert settled(LOOP, tmp_path) == began
    claim(tmp_path, Recipe(LOOP), settled(LOOP, tmp_path))
    with pytest.raises(InputError, match="another recipe"):
        claim(tmp_path, Recipe(LOOP), settled(replace(LOOP, precision="fp32"), tmp_path))


def test_another_recipe_is_refused_and_another_device_is_not(tmp_path: Path) -> None:
    loop = replace(LOOP, precision="fp32")
    claim(tmp_path, Recipe(loop), loop)
    claim(tmp_path, Recipe(loop, width=4), loop)  # no checkpoint: nothing is lost
    (tmp_path / CHECKPOINT).touch()
    elsewhere = replace(loop, device="cuda")
    claim(tmp_path, Recipe(elsewhere, width=4), elsewhere)
    with pytest.raises(InputError, match="holds the run of another recipe"):
        claim(tmp_path, Recipe(loop, width=5), loop)
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(InputError, match="holds the run of another recipe"):
        claim(tmp_path, Recipe(loop, width=4), loop)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"the run cannot be written to .*file/run: Not a directory"):
        claim(tmp_path / "file" / "run", Recipe(LOOP), LOOP)
