"""Cases for the readers of training data: tables beside pictures, kohya's files, COCO's boxes, WebDataset's shards."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from darkroom.data.catalog import open_unchecked
from darkroom.data.coco import read_coco
from darkroom.data.dataset import Dataset
from darkroom.data.folder import Folder, FolderConfig
from darkroom.data.kohya import KohyaConfig, kohya_buckets, open_kohya
from darkroom.data.shards import Shards, ShardsConfig
from tests.fuzz.mutation import HOSTILE, NASTY, json_bytes, mutate_bytes, mutate_json, mutate_text
from tests.fuzz.run import Case

__all__ = ["boxes", "kohya_files", "picture_tables", "shards"]

ROWS: list[dict[str, Any]] = [
    {"file_name": "a.png", "text": "a cat", "label": "cat", "score": 5.5},
    {"file_name": "below/b.png", "text": "a dog", "label": "dog", "score": 6},
]


def _picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (9, 80, 200)).save(path)


def _read(data: Dataset) -> None:
    """What training and `darkroom data check` ask of the first samples."""
    rng = np.random.default_rng(0)
    for i in range(min(3, len(data))):
        data.name(i).encode("utf-8", "backslashreplace")
        data.size(i)
        data.key(i)
        data.sample(i, rng)


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    """Nothing but the beginning where the optional package is missing or such a table cannot be."""
    try:
        from pyarrow import ArrowException, Table, parquet  # type: ignore[import-not-found]
    except ImportError:
        return b"PAR1"
    file = io.BytesIO()
    try:
        parquet.write_table(Table.from_pylist(rows), file)
    except (ArrowException, OverflowError, UnicodeEncodeError):
        return b"PAR1"
    return file.getvalue()


def _csv(rows: list[Any]) -> str:
    tables = [row for row in rows if isinstance(row, dict)]
    columns = list(tables[0] if tables else ())
    return "\n".join(",".join(str(value) for value in line) for line in (columns, *(t.values() for t in tables)))


def picture_tables(folder: Path) -> Case:
    """`metadata.jsonl`, `.csv` and `.parquet`, a list of names, and twins."""
    for row in ROWS:
        _picture(folder / row["file_name"])
    packed = _parquet(ROWS)

    def case(rng: random.Random) -> None:
        for left in {*folder.glob("metadata.*"), *folder.glob("*.txt")}:
            left.unlink()
        ending = rng.choice(("jsonl", "csv", "parquet", "txt"))
        path = folder / f"metadata.{ending}"
        if ending == "txt":
            (folder / "a.txt").write_bytes(mutate_bytes(b"a cat, red, {a|b}", rng, [b"\xff", b"\0", b"{" * 500]))
            path.write_text("\n".join(row["text"] for row in ROWS))
        elif ending == "jsonl":
            lines = [json.dumps(mutate_json(row, rng)) if rng.random() < 0.5 else json.dumps(row) for row in ROWS]
            text = "\n".join(lines).encode()
            path.write_bytes(mutate_bytes(text, rng, [b"\xe2\x80\xa8", b"[" * 3000]) if rng.random() < 0.3 else text)
        elif ending == "csv":
            text = _csv(ROWS if rng.random() < 0.5 else mutate_json(ROWS, rng) or [])
            path.write_bytes(mutate_text(text, rng, (",", '"', "\r", "\n\n", "file_name")).encode("utf-8", "replace"))
        elif rng.random() < 0.5:
            path.write_bytes(mutate_bytes(packed, rng))
        else:
            path.write_bytes(_parquet([{**row, rng.choice(list(row)): rng.choice(HOSTILE)} for row in ROWS]))
        listed = None
        if rng.random() < 0.2:
            listed = folder / "names.list"
            listed.write_bytes(mutate_bytes(b"a.png\nbelow/b.png\n", rng, [b"\0", b"\xff", b"../"]))
        chosen = rng.choice(("label", "text", "score", None))
        scores = rng.choice(("score", None, None))
        _read(Folder(FolderConfig(folder, list=listed, caption="x", class_column=chosen, aesthetic_column=scores)))
        open_unchecked(folder)

    return case


KOHYA = """
[general]
enable_bucket = true
shuffle_caption = true
keep_tokens = 1
min_bucket_reso = 256

[[datasets]]
resolution = [512, 512]
batch_size = 4
bucket_no_upscale = true

[[datasets.subsets]]
image_dir = "10_cat"
class_tokens = "sks cat"
num_repeats = 3

[[datasets.subsets]]
image_dir = "1_dog"
class_tokens = "dog"
is_reg = true
prior_loss_weight = 0.5
caption_extension = ".txt"
"""


def kohya_files(folder: Path) -> Case:
    for name in ("10_cat/a.png", "10_cat/b.png", "1_dog/c.png"):
        _picture(folder / name)
    words = ('"', "[[", "]", "= 1e999", "9" * 400, "= -1", "= nan", "[general]\n", "= []", "{", "\x1b", "= true", '""')

    def case(rng: random.Random) -> None:
        path = folder / "data.toml"
        if rng.random() < 0.5:
            text = mutate_text(KOHYA, rng, words)
        else:  # another value of one key
            lines = KOHYA.splitlines()
            i = rng.choice([i for i, line in enumerate(lines) if " = " in line])
            value = rng.choice((*HOSTILE[:14], *NASTY[:6], [], {}, "10_cat", [512, 512.5], [512, 512, 512], "512"))
            lines[i] = f"{lines[i].partition(' = ')[0]} = {_toml(value)}"
            text = "\n".join(lines)
        path.write_text(text.replace("../..", "nowhere"), "utf-8", "replace")
        kohya_buckets(path)
        _read(open_kohya(KohyaConfig(path), once=rng.random() < 0.5))

    return case


def _toml(value: object) -> str:
    return "{}" if value == {} else json.dumps(value).replace("Infinity", "inf").replace("NaN", "nan")


COCO: dict[str, Any] = {
    "images": [
        {"id": 5, "file_name": "a.png", "width": 100, "height": 50},
        {"id": 6, "file_name": "b.png", "width": 10, "height": 10},
    ],
    "annotations": [
        {"image_id": 5, "category_id": 18, "bbox": [10, 5, 40, 20.0]},
        {"image_id": 5, "category_id": 3, "bbox": [90, 40, 20, 20]},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
}


def boxes(folder: Path) -> Case:
    def case(rng: random.Random) -> None:
        path = folder / "boxes.json"
        path.write_bytes(json_bytes(COCO, rng))
        found = read_coco(path)
        assert all(0 <= v <= 1 for listed in found.pictures.values() for box in listed.boxes for v in box[1:5])

    return case


def shards(folder: Path) -> Case:
    _picture(folder / "x.png")
    png = (folder / "x.png").read_bytes()
    files = {"x/1.png": png, "x/1.txt": b"one", "x/1.cls": b"7", "x/2.json": b'{"caption": "two"}', "x/2.png": png}

    def case(rng: random.Random) -> None:
        packed = io.BytesIO()
        form = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
        with tarfile.open(fileobj=packed, mode="w", format=form) as tar:
            for name, content in files.items():
                changed = (
                    mutate_bytes(content, rng, [b"9" * 5000, b"\xff", b"[" * 3000]) if rng.random() < 0.2 else content
                )
                name = name + rng.choice(NASTY) if rng.random() < 0.05 else name
                name = name.replace("\ud800", "")[: 90 if form == tarfile.USTAR_FORMAT else None]
                info = tarfile.TarInfo(name)
                info.size = len(changed)
                info.type = rng.choice(tarfile.SUPPORTED_TYPES) if rng.random() < 0.05 else info.type
                tar.addfile(info, io.BytesIO(changed))
        content = packed.getvalue()
        content = mutate_bytes(content, rng, [b"\x80" * 12, b"7" * 11]) if rng.random() < 0.7 else content
        path = folder / "x.tar"
        path.write_bytes(content)
        _read(Shards(ShardsConfig(path, caption=rng.choice((None, "x")))))

    return case
