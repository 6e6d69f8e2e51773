"""Who owns the folder of a run, whose run it holds, and in which precision it goes on."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from forked import forked

from darkroom.errors import InputError
from darkroom.training import run_folder
from darkroom.training.checkpoints import Checkpoints
from darkroom.training.config import LoopConfig
from darkroom.training.run_folder import natural_precision, open_run, resolved


@dataclass(frozen=True)
class Recipe:
    loop: LoopConfig
    width: int = 3
    prompts: tuple[str, ...] = ("a",)


LOOP = LoopConfig(steps=1, batch_size=1, lr=0.1)


def begin(folder: Path, recipe: Recipe, *, checkpoint: bool = False) -> None:
    with open_run(folder, recipe, recipe.loop):
        if checkpoint:
            Checkpoints(folder, print).save(1, {})


def device_likes(half: torch.dtype | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "fast_half", lambda device: half)


@pytest.mark.parametrize(("half", "precision"), [(torch.bfloat16, "bf16"), (None, "fp32"), (torch.float16, "fp32")])
def test_a_new_run_takes_what_its_device_is_fast_in(
    half: torch.dtype | None, precision: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device_likes(half, monkeypatch)
    assert natural_precision("cpu") == precision
    assert resolved(LOOP, tmp_path).precision == precision


def test_a_run_keeps_the_precision_that_it_began_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device_likes(torch.bfloat16, monkeypatch)
    began = resolved(LOOP, tmp_path)
    begin(tmp_path, Recipe(began))
    assert json.loads((tmp_path / "recipe.json").read_text())["loop"]["precision"] == "bf16"
    device_likes(None, monkeypatch)  # the next machine
    assert resolved(LOOP, tmp_path).precision == "fp32"  # nothing to go on from yet
    Checkpoints(tmp_path, print).save(1, {})
    assert resolved(LOOP, tmp_path) == began
    begin(tmp_path, Recipe(resolved(LOOP, tmp_path)))
    with pytest.raises(InputError, match=r'its loop.precision is "bf16", now it is "fp32"'):
        begin(tmp_path, Recipe(replace(LOOP, precision="fp32")))


def test_what_alters_the_numbers_is_refused_by_name(tmp_path: Path) -> None:
    begin(tmp_path, Recipe(LOOP))
    begin(tmp_path, Recipe(LOOP, width=4), checkpoint=True)  # no checkpoint yet: nothing was lost
    with pytest.raises(InputError, match=r"holds the run of another recipe: its width is 4, now it is 5\. Go on"):
        begin(tmp_path, Recipe(LOOP, width=5))
    changed = replace(LOOP, seed=1, weight_decay=0.5, batch_size=2, ema_decay=0.5)
    with pytest.raises(InputError, match=r"its loop.batch_size is 1, now it is 2; .*; and 1 keys more"):
        begin(tmp_path, Recipe(changed, width=4))
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(InputError, match="holds the run of another recipe"):
        begin(tmp_path, Recipe(LOOP, width=4))


def test_what_does_not_may_change(tmp_path: Path) -> None:
    begin(tmp_path, Recipe(LOOP), checkpoint=True)
    longer = replace(LOOP, steps=9, device="cuda", log_every=1, sample_every=2, save_every=3)
    begin(tmp_path, Recipe(longer, prompts=("b", "c")))
    recorded = json.loads((tmp_path / "recipe.json").read_text())
    assert (recorded["prompts"], recorded["loop"]["steps"]) == (["b", "c"], 9)


def test_steps_by_which_the_rate_falls_may_not(tmp_path: Path) -> None:
    falling = replace(LOOP, lr_schedule="cosine")
    begin(tmp_path, Recipe(falling), checkpoint=True)
    with pytest.raises(InputError, match=r"its loop.steps is 1, now it is 9"):
        begin(tmp_path, Recipe(replace(falling, steps=9)))


def own_for_ever(folder: Path) -> None:
    with open_run(folder, Recipe(LOOP), LOOP):
        (folder / "owned").touch()
        time.sleep(600)


def test_a_folder_has_one_owner_until_that_is_gone(tmp_path: Path) -> None:
    owner = forked(own_for_ever, tmp_path)
    while not (tmp_path / "owned").exists():
        assert owner.is_alive()
        time.sleep(0.01)
    with pytest.raises(InputError, match=rf"is in use by process {owner.pid} on .* since 20.*: one run a folder"):
        begin(tmp_path, Recipe(LOOP))
    owner.kill()
    owner.join()
    begin(tmp_path, Recipe(LOOP))


def test_leftovers_of_killed_processes_are_swept(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "checkpoints" / ".00000007.new").mkdir(parents=True)
    left = [tmp_path / ".log.jsonl.a1b2c3d4", tmp_path / "samples" / ".0000500.png.q_e4r5t6"]
    for path in (*left, tmp_path / ".notes", tmp_path / "log.jsonl"):
        path.touch()
    begin(tmp_path, Recipe(LOOP))
    assert not any(path.exists() for path in left)
    assert sorted(os.listdir(tmp_path)) == [".lock", ".notes", "checkpoints", "log.jsonl", "recipe.json", "samples"]
    assert os.listdir(tmp_path / "checkpoints") == []


def test_a_run_of_an_earlier_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(InputError, match=r"checkpoint.pt is of an earlier version"):
        begin(tmp_path, Recipe(LOOP))


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"the folder .*file/run cannot be made: Not a directory"):
        begin(tmp_path / "file" / "run", Recipe(LOOP))
    os.mkfifo(tmp_path / ".lock")  # what waits for its other end
    with pytest.raises(InputError, match=r"\.lock is a pipe or a device, expected is a file"):
        begin(tmp_path, Recipe(LOOP))
