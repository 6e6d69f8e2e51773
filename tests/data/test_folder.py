"""A user's folder of pictures, in every form that it may have."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.config import from_dict, to_dict
from darkroom.data.buckets import BucketConfig, Bucketing
from darkroom.data.captions import CaptionConfig
from darkroom.data.catalog import open_dataset, open_unchecked, passed_over_in
from darkroom.data.check import check_dataset
from darkroom.data.dataset import Joined
from darkroom.data.folder import Folder, FolderConfig
from darkroom.data.reader import Reader
from darkroom.errors import InputError
from darkroom.training.config import LoopConfig
from darkroom.training.recipe_data import open_readers
from darkroom.training.validation import ValidationConfig
from darkroom.types import Size

RNG = np.random.default_rng(0)


def picture(path: Path, height: int = 6, width: int = 8, value: int = 0, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (value, 0, 0)).save(path, **options)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i, name in enumerate(["a.png", "b.jpg", "sub/c.webp"]):
        picture(tmp_path / name, value=10 * i)
    return tmp_path


def test_twins_are_captions(folder: Path) -> None:
    (folder / "a.txt").write_text("an a")
    (folder / "b.caption").write_text("a b\nsecond line")
    (folder / "sub" / "c.txt").write_text("\ufeffa c", encoding="utf-8")
    picture(folder / ".hidden" / "d.png")
    data = Folder(FolderConfig(folder))
    assert [data.name(i) for i in range(len(data))] == ["a.png", "b.jpg", "sub/c.webp"]
    assert [data.sample(i, RNG).conditions["caption"] for i in range(3)] == ["an a", "a b", "a c"]
    assert data.size(0) == data.sample(0, RNG).original_size == Size(6, 8)


def test_twins_may_have_the_whole_name_and_be_json(folder: Path) -> None:
    picture(folder / "a.jpg")
    (folder / "a.png.txt").write_text("an a")
    (folder / "a.jpg.JSON").write_text('{"text": "another a", "class": "x"}')
    (folder / "b.json").write_text('{"caption": "a b", "class": "y"}')
    (folder / "metadata.csv").write_text("file_name,text,class\nsub/c.webp,a c,x\n")
    data = Folder(FolderConfig(folder))
    assert data.texts == ["another a", "an a", "a b", "a c"]
    with pytest.raises(InputError, match=r"a.png has no class"):
        Folder(FolderConfig(folder, class_column="class"))
    (folder / "a.png.json").write_text('{"class": "y"}')
    assert Folder(FolderConfig(folder, class_column="class")).labels == [0, 1, 1, 0]


def test_a_picture_that_lies_on_its_side_stands_up(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(tmp_path / "a.jpg", exif=exif)
    data = Folder(FolderConfig(tmp_path, caption="a"))
    assert data.size(0) == data.sample(0, RNG).original_size == Size(8, 6)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_table_gives_captions_and_classes(form: str, folder: Path) -> None:
    rows = [("a.png", "an, a", "dog"), ("b.jpg", "b", "cat"), ("sub/c.webp", "c", "dog")]
    if form == "csv":
        lines = ["file_name,text,sort", *(f'{n},"{t}",{s}' for n, t, s in rows)]
    else:
        lines = [f'{{"file_name": "{n}", "text": "{t}", "sort": "{s}"}}' for n, t, s in rows]
    (folder / f"metadata.{form}").write_text("\n".join(lines))
    data = Folder(FolderConfig(folder, class_column="sort"))
    assert data.classes == ("cat", "dog")
    conditions = [data.sample(i, RNG).conditions for i in range(3)]
    assert [(c["caption"], c["class"]) for c in conditions] == [("an, a", 1), ("b", 0), ("c", 1)]


def test_folders_are_classes(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.png", "a/deep/3.png"):
        picture(tmp_path / name)
    data = Folder(FolderConfig(tmp_path, caption="", folder_classes=True))
    assert [(data.name(i), data.sample(i, RNG).conditions["class"]) for i in range(3)] == [
        ("a/2.png", 0), ("a/deep/3.png", 0), ("b/1.png", 1),
    ]  # fmt: skip


def test_maps_lie_beside(folder: Path) -> None:
    for name, value in (("segmentation", 5), ("depth", 200), ("mask", 255), ("weights", 0)):
        for stem in ("a", "b", "sub/c"):
            path = folder / "maps" / name / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 6), value).save(path)
    maps = folder / "maps"
    config = FolderConfig(
        folder, caption="", segmentation=maps / "segmentation", depth=maps / "depth", mask=maps / "mask",
        loss_mask=maps / "weights", unmasked_weight=0.25,
    )  # fmt: skip
    data = Folder(config)
    sample = data.sample(2, RNG)
    assert (sample.conditions["segmentation"] == 5).all()
    assert (sample.conditions["depth"] == 200).all()
    assert (sample.conditions["mask"] == 1).all()
    assert (sample.loss_mask == 0.25).all()
    assert len(data) == 3  # the maps are no pictures to train on
    (maps / "depth" / "b.png").unlink()
    absent = r"one picture expected for b.jpg in .*depth, there is nothing"
    with pytest.raises(InputError, match=absent):
        Folder(config)
    with pytest.raises(InputError, match=absent):  # gone since
        data.sample(1, RNG)
    picture(maps / "depth" / "a.png", height=5)
    with pytest.raises(InputError, match=r"the depth of a.png is 8x5 pixels, the picture is 8x6"):
        Folder(config)
    with pytest.raises(InputError, match=r"there is no folder .*nowhere, data.segmentation of the pictures"):
        Folder(replace(config, segmentation=maps / "nowhere"))


def test_captions_in_an_unknown_column_are_pointed_at(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,words\na.png,x\nb.jpg,y\nsub/c.webp,z\n")
    with pytest.raises(InputError, match=r"name one of the table's columns \(words\) in data.caption_column"):
        Folder(FolderConfig(folder)).require_captions()


def test_pictures_none_of_which_can_be_read_are_no_empty_data(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=r"none of the 2 pictures can be read, the first: .*a.png cannot be read"):
        Reader(Folder(FolderConfig(tmp_path, caption="")), BucketConfig(64), 1, 0)


def test_the_key_of_a_picture_changes_with_it(folder: Path) -> None:
    data = Folder(FolderConfig(folder, caption=""))
    before = [data.key(i) for i in range(3)]
    picture(folder / "b.jpg", value=99)
    os.utime(folder / "b.jpg", ns=(1, 1))
    after = [data.key(i) for i in range(3)]
    assert [a == b for a, b in zip(before, after)] == [True, False, True]
    assert len(set(after)) == 3


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({}, {}, r"2 of 3 pictures in .* have no caption, the first is b.jpg"),
        ({"a.caption": "twice"}, {}, r"a.png has 2 captions: a.txt and a.caption"),
        ({"a.jpg": ""}, {}, r"a.jpg and a.png in .* share one caption file"),
        ({"a.png.png": "", "a.png.txt": ""}, {}, r"a.png and a.png.png in .* share one caption file"),
        ({"a.png.txt": ""}, {}, r"a.png has 2 captions: a.txt and a.png.txt: one expected"),
        ({"b.json": "[1]"}, {}, r"b.json is not a table but a list"),
        ({"b.json": '{"label": 3}'}, {}, r"2 of 3 pictures .*: write .txt files .* columns \(label\)"),
        ({"metadata.csv": "name,text\na.png,x\n"}, {}, r"metadata.csv line 2 has no file_name; its columns are: name"),
        ({"metadata.csv": "file_name,text\na.png\n"}, {}, r"line 2 has another number of columns"),
        ({"metadata.csv": "file_name\nz.png\n"}, {}, r"names 1 files that are not in .*, the first is z.png"),
        ({"metadata.csv": "file_name\na.png\na.png\n"}, {}, r"line 3: a.png stands there twice"),
        ({"metadata.jsonl": "{}\n", "metadata.csv": ""}, {}, r"holds metadata.csv and metadata.jsonl: one table"),
        ({"metadata.jsonl": "[1]\n"}, {}, r"metadata.jsonl line 1 is not a table but a list"),
        ({"metadata.jsonl": "{"}, {}, r"metadata.jsonl line 1 is not valid JSON"),
        ({"metadata.jsonl": '{"file_name": "b.jpg", "text": 3}'}, {}, r"the text of b.jpg is 3, a text expected"),
        ({"metadata.jsonl": '{"file_name": "a.png", "txt": ""}'}, {"caption_column": "text"},
         r"has no column 'text'; known are: txt"),
        ({}, {"class_column": "sort"}, r"has no table with the column 'sort'"),
        ({}, {"folder_classes": True, "caption": ""}, r"a.png has no class"),
        ({"clean": "a.png\nz.png\n"}, {"list": Path("clean")}, r"clean lists 1 pictures that are not there, .* z.png"),
        ({"a.txt": b"\xff\xfe\xff"}, {"caption": ""}, r"a.txt is not UTF-8 text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_once(
    folder: Path,
    files: dict[str, str | bytes],
    changes: dict[str, object],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "a.txt").write_text("an a")
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        open_dataset(FolderConfig(folder, **changes))  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        Folder(FolderConfig(tmp_path / "none"))
    with pytest.raises(InputError, match="holds no pictures"):
        Folder(FolderConfig(tmp_path))


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    data = Folder(FolderConfig(tmp_path, caption=""))
    with pytest.raises(InputError, match=r"a.png cannot be read as a picture"):
        data.size(0)


def test_several_folders_are_one_with_repeats_and_weights(folder: Path, tmp_path: Path) -> None:
    config = FolderConfig(folder, caption="x")
    (tmp_path / "one").write_text("a.png\n")
    (tmp_path / "two").write_text("sub/c.webp\n\nb.jpg\n")
    one, two = (Folder(replace(config, list=tmp_path / name)) for name in ("one", "two"))
    data = Joined([one, two], [3, 1], [1.0, 0.5])
    assert [data.name(i) for i in range(len(data))] == ["a.png"] * 3 + ["b.jpg", "sub/c.webp"]
    assert [data.sample(i, RNG).weight for i in (0, 4)] == [1.0, 0.5]
    assert data.key(0) == data.key(2) == one.key(0)
    assert data.size(4) == Size(6, 8)


def test_the_configuration_reads_back() -> None:
    config = FolderConfig(Path("x"), captions=CaptionConfig(shuffle=True))
    assert from_dict(FolderConfig, to_dict(config)) == config


def test_names_that_other_systems_wrote(tmp_path: Path) -> None:
    picture(tmp_path / "A.PNG")
    (tmp_path / "A.TXT").write_text("capitals")
    picture(tmp_path / "e\u0301te\u0301.png")  # accents apart, as macOS writes them
    (tmp_path / "\u00e9t\u00e9.txt").write_text("accents")
    picture(tmp_path / "a\u0300.png")
    (tmp_path / "METADATA.CSV").write_text("file_name,text\n\u00e0.png,row\n", encoding="utf-8")
    data = Folder(FolderConfig(tmp_path))
    assert {data.name(i): data.texts[i] for i in range(3)} == {
        "A.PNG": "capitals", "a\u0300.png": "row", "e\u0301te\u0301.png": "accents",
    }  # fmt: skip


def test_tables_in_folders_below(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,text\na.png,above\nb.jpg,b\n")
    (folder / "sub" / "metadata.jsonl").write_text('{"file_name": "c.webp", "text": "below"}\n')
    assert Folder(FolderConfig(folder)).texts == ["above", "b", "below"]
    (folder / "metadata.csv").write_text("file_name,text\na.png,above\nb.jpg,b\nsub/c.webp,twice\n")
    with pytest.raises(InputError, match=r"sub/c.webp stands in .*sub/metadata.jsonl and in a table of a folder above"):
        Folder(FolderConfig(folder))


def test_captions_that_cannot_be_read_are_found_one_by_one(folder: Path) -> None:
    (folder / "a.txt").write_bytes("fraîche".encode("latin-1"))
    (folder / "b.txt").write_text("b")
    (folder / "b.caption").write_text("b")
    (folder / "sub" / "c.txt").write_text("c")
    dataset, texts = open_unchecked(folder)
    report = check_dataset(dataset, texts, Bucketing(BucketConfig(64)), least=4)
    found = {f.name: f.detail for f in report.findings if f.fault == "unreadable caption"}
    assert set(found) == {"a.png", "b.jpg"}
    assert "is not UTF-8 text" in found["a.png"]
    assert not {"a.png", "b.jpg"} & set(report.clean)
    with pytest.raises(InputError, match=r"a.txt is not UTF-8 text \(byte 3\); 1 more captions cannot be read"):
        open_dataset(FolderConfig(folder))


def test_tables_name_pictures_in_any_way_but_none_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    rows = ["./a.png,dotted", f"{folder}/b.jpg,whole", "sub/../sub/c.webp,there and back"]
    (folder / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    assert Folder(FolderConfig(folder)).texts == ["dotted", "whole", "there and back"]
    picture(tmp_path.parent / "elsewhere.png")
    (folder / "metadata.csv").write_text("file_name,text\n../elsewhere.png,x\n")
    with pytest.raises(InputError, match=r"names 1 files that are not in .*, the first is ../elsewhere.png"):
        Folder(FolderConfig(folder))


def test_linked_folders_are_read_once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    picture(elsewhere / "d.png")
    for name, target in (("loop", folder), ("more", elsewhere), ("same", elsewhere), ("sub again", folder / "sub")):
        (folder / name).symlink_to(target)
    assert Folder(FolderConfig(folder, caption="")).names == ["a.png", "b.jpg", "more/d.png", "sub/c.webp"]


def test_what_is_passed_over_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert passed_over_in(Folder(FolderConfig(folder, caption=""))) is None
    for name in ("x.HEIC", "sub/y.heic", "z.svg", ".hidden.heic", ".hidden/x.psd", "a.json", "notes.md", "a.raw"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    for name in ("recipe.json", "log.jsonl"):  # of a run; pictures of recipes may be called so, too
        (folder / name).write_text("{}")
        (folder / "runs" / "cat").mkdir(parents=True, exist_ok=True)
        (folder / "runs" / "cat" / name).write_text("{}")
    picture(folder / "runs" / "cat" / "samples" / "1.png")
    picture(folder / "runs" / "recipe.png")
    (folder / "runs" / "recipe.json").write_text('{"text": "a recipe"}')
    config = FolderConfig(folder, caption="", caption_extension=".raw")
    assert Folder(config).names == ["a.png", "b.jpg", "runs/recipe.png", "sub/c.webp"]
    told = f"passed over: 3 files (.heic 2, .svg 1), 1 folder of training runs ({folder / 'runs' / 'cat'})"
    assert passed_over_in(Folder(config)) == told
    assert passed_over_in(Joined([Joined([Folder(config)], [1], [1.0]), Folder(config)], [1, 1], [1.0, 1.0])) == told
    with pytest.raises(InputError, match=r"holds no pictures .*; passed over: 1 file \(.psd 1\)"):
        Folder(FolderConfig(folder / ".hidden"))
    for validation in (None, ValidationConfig(share=0.5)):  # said once
        open_readers(config, BucketConfig(64), LoopConfig(1, 1, 1e-3), validation)
        assert capsys.readouterr().err == f"{told}\n"


def test_names_that_no_list_can_hold_are_no_clean_ones(folder: Path) -> None:
    for i, name in enumerate(["x\ny.png", " blank .png", "line\u2028.png"]):
        picture(folder / name, value=60 * (i + 1))
    dataset, _ = open_unchecked(folder)
    report = check_dataset(dataset, ["a"] * 6, Bucketing(BucketConfig(64)), least=4)
    assert r"  x\ny.png: a list of names, one a line, cannot hold it: rename it" in list(report.lines())
    (folder / "clean.txt").write_text("".join(f"{name}\n" for name in report.clean))
    listed = Folder(FolderConfig(folder, list=folder / "clean.txt", caption="")).names
    assert set(listed) == {" blank .png", "a.png", "b.jpg", "line\u2028.png", "sub/c.webp"} & set(report.clean)
    assert {" blank .png", "line\u2028.png"} <= set(listed)
