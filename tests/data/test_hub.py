"""Data sets of the Hub, from folders as they lie on a disk: nothing is fetched."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from darkroom.data.catalog import open_dataset, open_unchecked
from darkroom.data.hub import Hub, HubConfig
from darkroom.errors import InputError
from darkroom.types import Size

RNG = np.random.default_rng(0)


def png(value: int, width: int = 8) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 6), (value, 0, 0)).save(file, format="PNG")
    return file.getvalue()


def rows(**columns: list[Any]) -> datasets.Dataset:
    pictures = [{"bytes": png(10 * i, 8 + i), "path": None} for i in range(3)]
    features = {"image": datasets.Image()}
    for name, values in columns.items():
        kind = values[0]
        features[name] = (
            datasets.ClassLabel(names=["cat", "dog"]) if name == "label"
            else datasets.List(datasets.Value("string")) if isinstance(kind, list)
            else datasets.Value("int64" if isinstance(kind, int) else "string")
        )  # fmt: skip
    return datasets.Dataset.from_dict({"image": pictures, **columns}, features=datasets.Features(features))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "saved"
    table = rows(text=["one", "two", "three"], label=[0, 1, 1], blip=[["a", "b"], ["c"], ["d"]])
    datasets.DatasetDict({"train": table}).save_to_disk(folder)
    return folder


def test_rows_are_samples_in_any_order(saved: Path) -> None:
    data = open_dataset(HubConfig(str(saved), class_column="label"))
    assert isinstance(data, Hub)
    assert [data.size(i) for i in range(len(data))] == [Size(6, 8), Size(6, 9), Size(6, 10)]
    samples = [data.sample(i, RNG) for i in (2, 0, 1)]
    assert [s.conditions for s in samples] == [
        {"caption": "three", "class": 1}, {"caption": "one", "class": 0}, {"caption": "two", "class": 1},
    ]  # fmt: skip
    assert [int(s.image[0, 0, 0]) for s in samples] == [20, 0, 10]
    assert data.sample(0, RNG, pixels=False).image is None
    assert len({data.key(i) for i in range(3)}) == 3
    again = Hub(HubConfig(str(saved)))
    assert again.key(1) == data.key(1)  # latents that were kept are found again


def test_several_captions_are_lines(saved: Path) -> None:
    data = Hub(HubConfig(str(saved), caption_column="blip"))
    assert data.text(0) == "a\nb"
    assert data.captions(0) == ["a"]
    assert data.sample(0, RNG).conditions["caption"] == "a"


def test_a_parquet_file_is_read_as_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    rows(prompt=["one", "two", "three"]).to_parquet(tmp_path / "data" / "train.parquet")
    data = Hub(HubConfig(str(tmp_path / "data")))
    assert data.sample(1, RNG).conditions == {"caption": "two"}


def test_a_parquet_file_of_other_programs_says_nothing_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    pictures = pyarrow.array([{"bytes": png(10 * i), "path": f"{i}.png"} for i in range(2)])
    alone = pyarrow.array([png(10 * i) for i in range(2)], pyarrow.large_binary())
    for name, column in (("pairs", pictures), ("alone", alone)):
        (tmp_path / name).mkdir()
        parquet.write_table(pyarrow.table({"image": column, "text": ["a", "b"]}), tmp_path / name / "train.parquet")
        data = Hub(HubConfig(str(tmp_path / name)))
        assert data.sample(1, RNG).image[0, 0, 0] == 10


def test_a_saved_folder_is_checked_as_any_other(saved: Path) -> None:
    data, texts = open_unchecked(saved)
    assert (len(data), texts) == (3, ["one", "two", "three"])


@pytest.mark.parametrize(("given", "message"), [
    ({"split": "test"}, r"has no split 'test'; known are: train"),
    ({"image_column": "picture"}, r"has no column 'picture' \(data.image_column\); known are: .*image"),
    ({"image_column": "text"}, r"the column 'text' of .* holds .*, pictures expected"),
    ({"caption_column": "captions"}, r"has no column 'captions' \(data.caption_column\)"),
    ({"caption_column": "label"}, r"the caption of row 0 is 0, a text expected"),
])  # fmt: skip
def test_what_is_not_there_is_named(given: dict[str, Any], message: str, saved: Path) -> None:
    with pytest.raises(InputError, match=message):
        Hub(HubConfig(str(saved), **given))


def test_pictures_without_captions_are_counted(tmp_path: Path) -> None:
    rows(text=["one", "", "three"]).save_to_disk(tmp_path / "some")
    with pytest.raises(InputError, match=r"1 of 3 rows of .* have no text, the first is row 1; set data.caption"):
        Hub(HubConfig(str(tmp_path / "some")))
    assert Hub(HubConfig(str(tmp_path / "some"), caption="a thing")).text(1) == "a thing"
    rows().save_to_disk(tmp_path / "none")
    with pytest.raises(InputError, match=r"has no column of captions .*: name one of its columns \(image\)"):
        Hub(HubConfig(str(tmp_path / "none")))


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    table = datasets.Dataset.from_dict({"image": [{"bytes": b"no picture", "path": None}], "text": ["x"]}, features)
    table.save_to_disk(tmp_path / "damaged")
    with pytest.raises(InputError, match=r"row 0 cannot be read as a picture"):
        Hub(HubConfig(str(tmp_path / "damaged"))).sample(0, RNG)


def test_the_package_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the package datasets: pip install 'darkroom-diffusion\[hub\]'"):
        Hub(HubConfig("owner/name"))


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"the data set .*empty cannot be read: The directory .* data files"):
        Hub(HubConfig(str(tmp_path / "empty")))
