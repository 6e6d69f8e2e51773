"""Checkpoints under damage, full disks and kills."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import forked

from darkroom.errors import InputError
from darkroom.training.checkpoints import Checkpoints


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((100,), float(step))}


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path: Path, told: list[str]) -> Checkpoints:
    found = Checkpoints(tmp_path, told.append)
    for step in (5, 10, 15):
        found.save(step, state(step))
    return found


def test_the_newest_two_are_kept(checkpoints: Checkpoints, tmp_path: Path) -> None:
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["00000010", "00000015"]
    found = checkpoints.newest()
    assert found is not None
    assert found[1]["step"] == 15
    assert torch.equal(found[1]["weights"], state(15)["weights"])


def test_none_is_none(tmp_path: Path) -> None:
    empty = Checkpoints(tmp_path, print)
    assert not empty
    assert empty.newest() is None


@pytest.mark.parametrize("where", ["state.pt", "digests.json"])
@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "gone", "pipe"])
def test_a_damaged_one_is_named_and_the_one_before_taken(
    where: str, damage: str, checkpoints: Checkpoints, told: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoints" / "00000015" / where
    whole = path.read_bytes()
    if damage in ("gone", "pipe"):
        path.unlink()
        if damage == "pipe":
            os.mkfifo(path)
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes({"bit": flipped, "cut": whole[:middle], "empty": b""}[damage])
    found = checkpoints.newest()
    assert found is not None
    assert found[1]["step"] == 10
    assert "00000015 is damaged and passed over" in told[0]
    assert "00000010" in told[1]
    checkpoints.save(15, state(15))  # the run comes by here again
    again = checkpoints.newest()
    assert again is not None
    assert again[1]["step"] == 15


def test_if_all_are_damaged_nothing_begins_again_in_silence(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for path in tmp_path.rglob("state.pt"):
        path.write_bytes(b"x")
    with pytest.raises(InputError, match=r"no checkpoint in .*checkpoints is sound; remove them to begin again"):
        checkpoints.newest()


def test_a_full_disk_leaves_what_is_there(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(state: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"00000020 cannot be written: No space left on device"):
        checkpoints.save(20, state(20))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["00000010", "00000015"]
    found = checkpoints.newest()
    assert found is not None
    assert found[1]["step"] == 15


def save_where_files_are_small(folder: Path, told: Path) -> None:
    """As a user with a quota, or an almost full disk, would see it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        Checkpoints(folder, print).save(20, {"weights": torch.zeros(100_000)})
    except InputError as error:
        told.write_text(str(error))


def test_a_real_limit_of_the_system_is_one_sentence(checkpoints: Checkpoints, tmp_path: Path) -> None:
    forked(save_where_files_are_small, tmp_path, tmp_path / "told").join()
    assert "00000020 cannot be written: " in (tmp_path / "told").read_text()
    found = checkpoints.newest()
    assert found is not None
    assert found[1]["step"] == 15


def save_for_ever(folder: Path) -> None:
    for step in itertools.count(20):
        weights = torch.full((200_000,), float(step))
        Checkpoints(folder, print).save(step, {"step": step, "weights": weights})


def test_a_kill_while_saving_leaves_a_sound_one(checkpoints: Checkpoints, told: list[str], tmp_path: Path) -> None:
    process = forked(save_for_ever, tmp_path)
    while max(os.listdir(tmp_path / "checkpoints")) < "00000023":  # that one itself may be gone by the next look
        assert process.is_alive()
        time.sleep(0.001)
    process.kill()
    process.join()
    found = checkpoints.newest()
    assert found is not None
    assert found[1]["step"] >= 23
    assert (found[1]["weights"] == found[1]["step"]).all()
    assert told == []
    checkpoints.sweep()
    assert not [name for name in os.listdir(tmp_path / "checkpoints") if name.startswith(".")]
