"""A run says which of its pictures are new, gone or changed, and does not go on with them unasked."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.data.dataset import Dataset, Joined
from darkroom.data.folder import Folder, FolderConfig
from darkroom.data.shards import Shards, ShardsConfig
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.errors import InputError
from darkroom.training.data_record import check_data


def noise(seed: int) -> bytes:
    """A PNG of noise, all of one size."""
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").write_bytes(noise(i))
        (folder / f"{i}.txt").write_text(f"number {i}")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def opened(folder: Path) -> Dataset:
    return Joined([Folder(FolderConfig(folder))], [2], [1.0], ["2_cat/"])


def test_what_changed_is_named(pictures: Path, run: Path) -> None:
    check_data(run, opened(pictures), resumes=False)
    assert len(noise(0)) == len(noise(9)), "a size tells nothing here"
    (pictures / "0.png").write_bytes(noise(9))
    (pictures / "1.txt").write_text("another caption")
    for name in ("2.png", "2.txt"):
        (pictures / name).rename(pictures / f"new {name}")
    told = (
        r"1 new \(2_cat/new 2.png\), 1 gone \(2_cat/2.png\), 2 changed \(2_cat/0.png, 2_cat/1.png\); bring those back"
    )
    with pytest.raises(InputError, match=told):
        check_data(run, opened(pictures), resumes=True)
    (run / "data.json").unlink()
    check_data(run, opened(pictures), resumes=True)
    check_data(run, opened(pictures), resumes=True)


def test_a_run_without_a_checkpoint_has_nothing_to_lose(pictures: Path, run: Path) -> None:
    check_data(run, opened(pictures), resumes=False)
    (pictures / "0.png").unlink()
    check_data(run, opened(pictures), resumes=False)
    check_data(run, opened(pictures), resumes=True)


def test_copies_and_dates_are_no_change(pictures: Path, run: Path) -> None:
    check_data(run, opened(pictures), resumes=False)
    os.utime(pictures / "0.png", (0, 0))
    check_data(run, opened(pictures.rename(pictures.parent / "moved")), resumes=True)


def test_files_of_shards_and_maps_count(pictures: Path, run: Path) -> None:
    def shards(label: bytes) -> Shards:
        with tarfile.open(pictures / "a.tar", "w") as tar:
            for name, data in (("1.png", noise(1)), ("1.txt", b"one"), ("1.cls", label)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return Shards(ShardsConfig(pictures / "a.tar"))

    check_data(run, shards(b"1"), resumes=False)
    check_data(run, shards(b"1"), resumes=True)
    with pytest.raises(InputError, match=r"1 changed \(a.tar/1\)"):
        check_data(run, shards(b"2"), resumes=True)
    maps = pictures / "masks"
    maps.mkdir()
    for i in range(5):
        (maps / f"{i}.png").write_bytes(noise(i))
    config = FolderConfig(pictures, mask=maps)
    check_data(run, Folder(config), resumes=False)
    (maps / "3.png").write_bytes(noise(8))
    with pytest.raises(InputError, match=r"1 changed \(3.png\)"):
        check_data(run, Folder(config), resumes=True)


def test_drawn_scenes_leave_no_file(run: Path) -> None:
    check_data(run, PictureBook(PictureBookConfig(size=32, count=3)), resumes=False)
    assert not list(run.iterdir())
