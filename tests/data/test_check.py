"""What `darkroom data check` finds."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.data import check
from darkroom.data.buckets import BucketConfig, Bucketing
from darkroom.data.check import check_dataset, contact_sheet, near_duplicates, thumbnail
from darkroom.data.folder import Folder, FolderConfig
from darkroom.types import Size


def drawing(seed: int, height: int = 96, width: int = 128) -> Image.Image:
    """Something smooth: random places, enlarged."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    for seed, name in enumerate(["a.png", "b.png", "c.png"]):
        drawing(seed).save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(f"number {seed}")
    drawing(0, 48, 64).save(tmp_path / "twin of a.jpg", quality=80)
    (tmp_path / "twin of a.txt").write_text("too long a caption")
    drawing(7, 20, 30).save(tmp_path / "tiny.png")
    (tmp_path / "tiny.txt").write_text("tiny")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.txt").write_text("cut")
    drawing(9).save(tmp_path / "mute.png")
    drawing(10).save(tmp_path / "silent.png")
    (tmp_path / "silent.txt").write_text("\n")
    return Folder(FolderConfig(tmp_path))


def test_everything_is_found(folder: Folder) -> None:
    report = check_dataset(
        folder, folder.texts, Bucketing(BucketConfig(64, "aspect", step=16)), least=40,
        caption_fault=lambda text: "4 words" if "long" in text else None,
    )  # fmt: skip
    found = {(f.name, f.fault) for f in report.findings}
    assert found == {
        ("cut.png", "unreadable"), ("mute.png", "no caption"), ("silent.png", "no caption"), ("tiny.png", "too small"),
        ("twin of a.jpg", "near-duplicate"), ("twin of a.jpg", "caption"),
    }  # fmt: skip
    assert report.clean == ["a.png", "b.png", "c.png"]
    assert sum(report.buckets.values()) == 7
    assert report.enlarged == 2
    # 4:3 goes to 64 × 64 · 1.25 or thereabouts: what is cut is the difference of the ratios.
    bucket = Bucketing(BucketConfig(64, "aspect", step=16)).size(Size(96, 128))
    ratio = bucket.width / bucket.height * 96 / 128
    assert report.lost[bucket] == pytest.approx(1 - min(ratio, 1 / ratio), abs=0.02)
    text = "\n".join(report.lines())
    assert "8 pictures, 3 without a fault" in text
    assert "twin of a.jpg: of a.png" in text
    assert "% cut away" in text
    assert "silent.png: its caption is empty" in text


def pixels(seed: int, *size: int) -> np.ndarray:
    return np.asarray(drawing(seed, *size))


def test_a_scaled_picture_is_found_and_others_are_not() -> None:
    originals = [thumbnail(pixels(seed)) for seed in range(40)]
    assert list(near_duplicates(originals)) == []
    scaled = [thumbnail(pixels(seed, 300, 400)) for seed in range(40)]
    found = list(near_duplicates(originals + scaled))
    assert [(first, second) for first, second, _ in found] == [(i, 40 + i) for i in range(40)]


def test_comparing_by_blocks_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = [thumbnail(pixels(seed % 7)) for seed in range(20)]
    whole = list(near_duplicates(thumbnails))
    assert [second for _, second, _ in whole] == list(range(7, 20))
    monkeypatch.setattr(check, "ROOM", 60)
    assert list(near_duplicates(thumbnails)) == whole


def on_white(spot: tuple[int, int], color: tuple[int, int, int] = (40, 40, 40)) -> np.ndarray:
    """A small filled square on white, as drawings are."""
    picture = np.full((64, 64, 3), 255, np.uint8)
    picture[spot[0] : spot[0] + 12, spot[1] : spot[1] + 12] = color
    return picture


def test_drawings_on_white_are_told_apart_by_one_spot() -> None:
    drawings = [
        on_white((8, 8)),
        on_white((8, 40)),
        on_white((8, 8), (40, 40, 200)),
        np.full((64, 64, 3), 255, np.uint8),
    ]
    assert list(near_duplicates([thumbnail(d) for d in drawings])) == []
    buffer = io.BytesIO()
    Image.fromarray(drawings[1]).resize((90, 90), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    again = thumbnail(np.asarray(Image.open(buffer)))
    assert [pair[:2] for pair in near_duplicates([*(thumbnail(d) for d in drawings), again])] == [(1, 4)]


def test_a_contact_sheet_shows_the_first_of_a_list(folder: Folder) -> None:
    sheet = contact_sheet(folder, ["a.png", "c.png", "b.png"], side=32, columns=2, most=2)
    assert sheet.size == (64, 32)
    for place, seed in enumerate((0, 2)):
        middle = np.asarray(sheet.crop((32 * place + 4, 8, 32 * place + 28, 24))).astype(float).mean(axis=(0, 1))
        expected = np.asarray(drawing(seed)).astype(float).mean(axis=(0, 1))
        assert np.abs(middle - expected).max() < 20
