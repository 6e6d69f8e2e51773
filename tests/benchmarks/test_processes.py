"""Fresh processes on tiny models. Ours read a folder that says what it is: no catalogue holds the narrow system."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from narrow_checkpoints import narrow

from benchmarks.checkpoint import Checkpoint, write_checkpoint
from benchmarks.processes import _fresh, command, load_runs, start_runs
from benchmarks.work import BASE, Settings

SYSTEM = narrow("sd-v1-5")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return write_checkpoint(SYSTEM, tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(torch.float32, torch.device("cpu"), tmp_path)


def test_loading(checkpoint: Checkpoint, tiny_folder: Path, settings: Settings) -> None:
    """The peer's program is also a part of the next test's."""
    runs = load_runs(checkpoint, SYSTEM, settings)
    assert list(runs) == ["darkroom", BASE, "darkroom, as stored", "diffusers, as stored", "reading the file"]
    ours = load_runs(replace(checkpoint, file=tiny_folder), SYSTEM, settings)
    for turn in (runs["reading the file"](), ours["darkroom"]()):
        assert turn.seconds > 0
        assert turn.peak is not None
        assert 0 <= turn.peak < 2**28  # imports are not counted


@pytest.mark.slow
def test_from_the_start_to_the_first_step(checkpoint: Checkpoint, tiny_folder: Path, settings: Settings) -> None:
    theirs = start_runs(checkpoint, SYSTEM, 64, settings)[BASE]()
    ours = start_runs(replace(checkpoint, file=tiny_folder), SYSTEM, 64, settings)["darkroom"]()
    for turn in (theirs, ours):
        assert list(turn.parts) == ["imports", "load", "first step"]
        assert turn.seconds == pytest.approx(sum(turn.parts.values()))
        assert turn.peak is not None
        assert turn.peak > 2**26  # with imports


def test_a_picture_by_the_command(tiny_folder: Path, settings: Settings) -> None:
    turn = command(str(tiny_folder)).prepare(settings).runs["darkroom"]()
    assert list(turn.parts) == ["before it counts", "start and load", "draw", "write"]
    assert turn.seconds == pytest.approx(
        sum(turn.parts.values()), abs=0.1
    )  # printed with two digits, before the process ends
    assert len(list(settings.folder.glob("*.png"))) == 1


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        _fresh("raise SystemExit('no such thing')")
