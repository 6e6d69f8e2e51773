"""What a LoRA's file tells of its data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from darkroom.data.kohya import KohyaConfig, open_kohya
from darkroom.data.source import PictureBook, PictureBookConfig
from darkroom.training.kohya_metadata import data_metadata
from darkroom.types import Size


def test_folders_tags_and_buckets_are_told(tmp_path: Path) -> None:
    for name, captions in {"10_cat": ["A cat, Red", "red, sky"], "1_dog": ["a dog\nsecond line"]}.items():
        for i, caption in enumerate(captions):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", (64, 64)).save(tmp_path / name / f"{i}.png")
            (tmp_path / name / f"{i}.txt").write_text(caption)
    buckets = {Size(64, 96): np.arange(20), Size(64, 64): np.arange(1)}
    told = {
        k: json.loads(v) for k, v in data_metadata(open_kohya(KohyaConfig(tmp_path)), buckets).items() if "_e" not in k
    }
    assert told["ss_dataset_dirs"] == {
        "1_dog": {"n_repeats": 1, "img_count": 1},
        "10_cat": {"n_repeats": 10, "img_count": 2},
    }
    assert told["ss_tag_frequency"] == {"1_dog": {"a dog": 1}, "10_cat": {"a cat": 1, "red": 2, "sky": 1}}
    assert told["ss_bucket_info"] == {
        "buckets": {"0": {"resolution": [64, 64], "count": 1}, "1": {"resolution": [96, 64], "count": 20}}
    }


def test_what_is_no_folder_has_buckets_alone() -> None:
    told = data_metadata(PictureBook(PictureBookConfig(64, 3)), {Size(64, 64): np.arange(3)})
    assert told.keys() == {"ss_bucket_info", "ss_enable_bucket"}
