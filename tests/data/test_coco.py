"""Boxes beside pictures, in COCO's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from darkroom.data.buckets import BucketConfig, Bucketing
from darkroom.data.coco import Listed, alike, read_coco
from darkroom.data.folder import Folder, FolderConfig
from darkroom.errors import InputError
from darkroom.types import Size

TABLE: dict[str, Any] = {
    "images": [
        {"id": 5, "file_name": "a.png", "width": 100, "height": 50},
        {"id": 6, "file_name": "b.png", "width": 10, "height": 10},
    ],
    "annotations": [
        {"image_id": 5, "category_id": 18, "bbox": [10, 5, 40, 20.0]},
        {"image_id": 5, "category_id": 3, "bbox": [90, 40, 20, 20], "iscrowd": 1},  # goes beyond the picture
        {"image_id": 5, "category_id": 3, "bbox": [1, 1, 0.1, 0.1]},  # too small to be seen
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
}


def write(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**TABLE, **changes}))
    return path


def test_boxes_are_shares_and_classes_are_numbered_from_0(tmp_path: Path) -> None:
    found = read_coco(write(tmp_path / "boxes.json"))
    assert found.labels == ("car", "dog")
    listed = found.of("below/a.png")
    assert listed is not None
    assert listed.boxes == ((1, 0.1, 0.1, 0.5, 0.5, False), (0, 0.9, 0.8, 1.0, 1.0, True))
    assert found.of("b.png") == Listed(Size(10, 10), ())
    assert found.of("c.png") is None


def test_sizes_of_one_shape() -> None:
    assert alike(Size(427, 640), Size(427, 640))
    assert alike(Size(427, 640), Size(171, 256))  # made smaller and rounded
    assert alike(Size(640, 427), Size(512, 342))
    assert not alike(Size(427, 640), Size(640, 427))  # turned
    assert not alike(Size(64, 99), Size(64, 80))


def test_a_folder_s_boxes_go_with_the_crop(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.zeros((50, 100, 3), np.uint8)).save(pictures / "a.png")
    folder = Folder(FolderConfig(pictures, caption="", boxes=write(tmp_path / "boxes.json")))
    rng = np.random.default_rng(0)
    sample = Bucketing(BucketConfig(64)).fit(folder.sample(0, rng), Size(64, 64), rng)
    ((label, *corners, group),) = sample.conditions["boxes"]  # the car lies where the picture is cut
    assert (label, group) == (1, False)
    assert corners == pytest.approx([0.0, 0.1, 0.5, 0.5])
    Image.fromarray(np.zeros((50, 100, 3), np.uint8)).save(pictures / "c.png")
    with pytest.raises(InputError, match=r"boxes.json does not list 1 of the pictures, the first is c.png"):
        Folder(FolderConfig(pictures, caption="", boxes=tmp_path / "boxes.json"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, r"images is missing: a list of tables expected"),
        (
            {"annotations": [{"image_id": 5, "category_id": 99, "bbox": [0, 0, 1, 1]}]},
            r"annotations\[0\] is of a picture",
        ),
        ({"annotations": [{"image_id": 5, "category_id": 3, "bbox": [0, 1]}]}, r"annotations\[0\].bbox is \[0, 1\]"),
        ({"categories": [{"id": "3"}]}, r"categories\[0\].id is '3', a whole number expected"),
        ({"images": [{"id": 5, "file_name": "a.png", "width": 0, "height": 2}]}, r"the picture 'a.png' is 0x2"),
        ({"images": [{"id": 5, "file_name": "a.png", "width": 10**400, "height": 2}]}, r"the picture 'a.png' is 1000"),
    ],
)
def test_annotations_that_cannot_be_read(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_coco(write(tmp_path / "boxes.json", **changes))


def test_boxes_of_a_picture_of_another_shape_are_refused(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.zeros((100, 50, 3), np.uint8)).save(pictures / "a.png")
    told = r"the boxes of a.png are of a picture of 100x50 pixels, it has 50x100: the same shape expected"
    with pytest.raises(InputError, match=told):
        Folder(FolderConfig(pictures, caption="", boxes=write(tmp_path / "boxes.json")))
