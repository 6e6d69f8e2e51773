"""WebDataset's tar files."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.data.shards import Shards, ShardsConfig
from darkroom.errors import InputError
from darkroom.types import Size

RNG = np.random.default_rng(0)


def png(value: int, width: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 6), (value, 0, 0)).save(file, format="PNG")
    return file.getvalue()


def write(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write(tmp_path / "00.tar", {
        "x/1.png": png(10), "x/1.txt": b"one", "x/1.cls": b"7\n",
        "x/2.json": b'{"caption": "two"}', "x/2.png": png(20, 9),
    })  # fmt: skip
    # As `tar` writes a folder: what belongs together is apart.
    write(tmp_path / "01.tar", {
        "./3.caption": b"three", "readme.md": b"", "4.txt": b"", "./3.PNG": png(30), "./3.mask.png": png(1),
    })  # fmt: skip
    return tmp_path


@pytest.mark.parametrize("path", [".", "{00..01}.tar"])
def test_samples_are_found_in_all_shards(path: str, shards: Path) -> None:
    data = Shards(ShardsConfig(shards / path))
    assert [data.name(i) for i in range(len(data))] == ["00.tar/x/1", "00.tar/x/2", "01.tar/3"]
    samples = [data.sample(i, RNG) for i in (2, 0, 1, 0)]
    assert [s.conditions["caption"] for s in samples] == ["three", "one", "two", "one"]
    assert [int(s.image[0, 0, 0]) for s in samples] == [30, 10, 20, 10]
    assert samples[1].conditions["class"] == 7
    assert data.size(1) == samples[2].original_size == Size(6, 9)
    assert len({data.key(i) for i in range(3)}) == 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.v2.png": png(1), "1.txt": b"a"}, r"holds 1\.v2\.png: .* expected is 1\.png"),
        ({"1.png": png(1)}, r"1 of 1 pictures in .* have no caption, the first is 1"),
        ({"1.png": png(1), "1.txt": b"\xff"}, r"the caption of 1 is not UTF-8"),
        ({"1.png": png(1), "1.json": b"{"}, r"1.json is not valid JSON"),
        ({"1.txt": b"text"}, r"holds no pictures"),
        ({"1.png": png(1), "1.PNG": png(1)}, r"holds 1.PNG twice"),
        ({"1.png": png(1), "1.txt": b"a", "1.jpg": png(2)}, r"1.png and 1.jpg under one name: one expected"),
        ({"1.png": png(1), "1.txt": b"x" * (2**20 + 1)}, r"has 1048577 bytes, 1048576 at most expected"),
    ],
)
def test_what_is_wrong_is_said_at_once(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.tar", files)
    with pytest.raises(InputError, match=message):
        Shards(ShardsConfig(tmp_path / "a.tar"))


def test_files_that_are_no_shards(shards: Path, tmp_path: Path) -> None:
    write(tmp_path / "packed.tar", {"1.png": png(1)}, "w:gz")
    (tmp_path / "text.tar").write_text("no tar" * 1000)
    for name in ("packed.tar", "text.tar"):
        with pytest.raises(InputError, match=f"{name} cannot be read as an uncompressed tar file"):
            Shards(ShardsConfig(tmp_path / name, caption=""))
    with pytest.raises(InputError, match=r"there is no file .*02.tar"):
        Shards(ShardsConfig(shards / "{00..02}.tar"))
    whole = (shards / "00.tar").read_bytes()
    data = Shards(ShardsConfig(shards / "00.tar"))
    (shards / "00.tar").write_bytes(whole[:700])
    with pytest.raises(InputError, match=r"00.tar ends in the middle of a file: it is truncated"):
        data.sample(1, RNG)


def test_a_damaged_picture_and_class_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", {"1.png": b"none", "2.png": png(1), "2.cls": b"cat"})
    data = Shards(ShardsConfig(tmp_path / "a.tar", caption=""))
    with pytest.raises(InputError, match=r"a.tar/1"):
        data.sample(0, RNG)
    with pytest.raises(InputError, match=r"the class of a.tar/2 is b'cat', a whole number expected"):
        data.sample(1, RNG)
