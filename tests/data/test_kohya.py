"""Data sets as kohya's trainers have them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.data.buckets import BucketConfig
from darkroom.data.kohya import KohyaConfig, kohya_buckets, open_kohya
from darkroom.data.reader import Reader
from darkroom.errors import InputError
from darkroom.types import Size

RNG = np.random.default_rng(0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("10_sks cat/a.png", "10_sks cat/b.png", "1_cat/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "10_sks cat" / "b.txt").write_text("sks cat, sleeping, red")
    return tmp_path


def test_folders_say_how_often_and_what(root: Path) -> None:
    data = open_kohya(KohyaConfig(root))
    assert len(data) == 21
    captions = [data.sample(i, RNG).conditions["caption"] for i in range(21)]
    assert captions == ["sks cat", "sks cat, sleeping, red"] * 10 + ["cat"]
    assert kohya_buckets(root) is None
    (root / "cats").mkdir()
    with pytest.raises(InputError, match=r"cats is not named as N_class"):
        open_kohya(KohyaConfig(root))


TOML = """
[general]
enable_bucket = true
shuffle_caption = true
keep_tokens = 1

[[datasets]]
resolution = [512, 512]
batch_size = 4
bucket_no_upscale = true

  [[datasets.subsets]]
  image_dir = "10_sks cat"
  class_tokens = "sks cat"
  num_repeats = 3

  [[datasets.subsets]]
  image_dir = "1_cat"
  class_tokens = "cat"
  is_reg = true
  prior_loss_weight = 0.5
  shuffle_caption = false
  flip_aug = false
"""


def test_a_file_is_read_as_it_is(root: Path) -> None:
    path = root / "dataset.toml"
    path.write_text(TOML)
    data = open_kohya(KohyaConfig(path))
    assert [data.name(i) for i in range(len(data))] == ["10_sks cat/a.png", "10_sks cat/b.png"] * 3 + ["1_cat/c.png"]
    assert [data.sample(i, RNG).weight for i in (0, 6)] == [1.0, 0.5]
    found = {data.sample(1, np.random.default_rng(i)).conditions["caption"] for i in range(20)}
    assert found == {"sks cat, sleeping, red", "sks cat, red, sleeping"}
    assert kohya_buckets(path) == BucketConfig(512, "aspect", 64, 256, 1024, upscale=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_repeats", "num_repeat", r"unknown key datasets\[0\]\.subsets\[0\]\.num_repeat; known are: num_repeats"),
        ("is_reg = true", "color_aug = true", r"color_aug is True, which is not supported"),
        ("is_reg = true", "color_aug = false", None),
        ('image_dir = "1_cat"', "", r"datasets\[0\]\.subsets\[1\]\.image_dir is missing"),
        ("[[datasets]]", "[[dataset]]", r"unknown key dataset; known are: datasets"),
        ("num_repeats = 3", "num_repeats = []", r"num_repeats is \[\], expected is a whole number"),
        ("num_repeats = 3", "num_repeats = -1", r"num_repeats is -1, expected is 1 to 999999"),
        (
            "num_repeats = 3",
            'num_repeats = 3\ncaption_extension = "."',
            r"caption_extension is ., expected is an ending",
        ),
        ("num_repeats = 3", f'num_repeats = 3\ncaption_extension = "{"a" * 300}"', r"caption_extension is aaa"),
        ("_weight = 0.5", "_weight = nan", r"prior_loss_weight is nan, expected is a finite number"),
        ('"10_sks cat"', f'"{"a" * 300}"', r"there is no folder .*aaa"),
        ("[general]", "general = 3\n[x]", r"general is not a table"),
        ("[512, 512]", "[512, 768]", r"resolution is \[512, 768\]"),
        ("[general]", "[general", r"is not valid TOML"),
        ("keep_tokens = 1", "keep_tokens = -1", r"keep_tokens is -1"),
        ("keep_tokens = 1", 'keep_tokens = "one"', r"keep_tokens is \"one\""),
    ],
)
def test_what_is_wrong_is_named(root: Path, old: str, new: str, message: str | None) -> None:
    path = root / "dataset.toml"
    path.write_text(TOML.replace(old, new, 1))
    if message is None:
        assert len(open_kohya(KohyaConfig(path))) == 7
        return
    with pytest.raises(InputError, match=message):
        assert kohya_buckets(path) is None or open_kohya(KohyaConfig(path)) is None


def test_datasets_of_several_resolutions(root: Path) -> None:
    path = root / "dataset.toml"
    path.write_text(
        """
        [[datasets]]
        resolution = 64
        [[datasets.subsets]]
        image_dir = "10_sks cat"
        class_tokens = "cat"
        [[datasets]]
        resolution = 32
        [[datasets.subsets]]
        image_dir = "10_sks cat"
        class_tokens = "cat"
        flip_aug = true
        [[datasets.subsets]]
        image_dir = "1_cat"
        class_tokens = "cat"
        """
    )
    buckets = kohya_buckets(path)
    assert buckets == (BucketConfig(64, step=8), BucketConfig(32, step=8, flip=True), BucketConfig(32, step=8))
    reader = Reader(open_kohya(KohyaConfig(path)), buckets, 2, 0)
    assert {size: len(numbers) for size, numbers in reader.buckets.items()} == {Size(32, 32): 3, Size(64, 64): 2}
    samples = [reader.read(place) for step in range(30) for place in reader.order.batch(step)]
    used = reader.drain()
    assert {(u.name, u.size.width) for u in used} == {
        ("10_sks cat/a.png", 64), ("10_sks cat/b.png", 64), ("10_sks cat/a.png", 32), ("10_sks cat/b.png", 32),
        ("1_cat/c.png", 32),
    }  # fmt: skip
    flipped = {u.index for u, s in zip(used, samples) if s.flipped}
    assert flipped == {2, 3}  # those of the subset that is mirrored
    with pytest.raises(InputError, match="the 3 subsets of the data differ in their sizes"):
        Reader(open_kohya(KohyaConfig(root)), buckets, 2, 0)


def test_pictures_beside_the_numbered_folders_are_not_passed_over(root: Path) -> None:
    shutil.copy(root / "1_cat" / "c.png", root / "loose.png")
    with pytest.raises(InputError, match=r"holds 1 pictures beside its folders N_class, .* the first is loose.png"):
        open_kohya(KohyaConfig(root))
