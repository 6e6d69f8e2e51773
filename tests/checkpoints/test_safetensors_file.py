"""Safetensors: what the peer writes is read and the reverse; every lie in a header is an error that names it."""

import json
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.safetensors_file import Planned, write_safetensors
from darkroom.errors import InputError

# Seconds of processor time. A second is what is promised of a usual machine; what is caught here would take minutes.
HANG = 10

TENSORS = {
    "a.weight": torch.arange(12.0).reshape(3, 4),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([[1.0], [3.0]], dtype=torch.bfloat16),
    "eight": torch.tensor([1.0, 0.5, -3.5]).to(torch.float8_e4m3fn),
    "count": torch.tensor(7),
    "flags": torch.tensor([True, False, True]),
    "nothing": torch.empty(0, 3),
}


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.double(), b.double())


def test_peer_writes_we_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "peer.safetensors", metadata={"modelspec.title": "ä test"})
    weights = open_weights(tmp_path / "peer.safetensors")
    assert set(weights) == set(TENSORS)
    assert weights.metadata == {"modelspec.title": "ä test"}
    assert all(same(weights[name].load(), tensor) for name, tensor in TENSORS.items())


def test_we_write_peer_reads(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "ours.safetensors", TENSORS, {"b": "2", "a": "1"})
    loaded = load_file(tmp_path / "ours.safetensors")
    assert set(loaded) == set(TENSORS)
    assert all(same(loaded[name], tensor) for name, tensor in TENSORS.items())


def test_load_casts_floats_and_keeps_integers(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", TENSORS)
    weights = open_weights(tmp_path / "x.safetensors")
    assert weights["a.weight"].load(torch.float16).dtype == torch.float16
    assert weights["count"].load(torch.float16).dtype == torch.int64


def test_views_do_not_write_through(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, TENSORS)
    before = path.read_bytes()
    open_weights(path)["a.weight"].load().fill_(9)
    assert path.read_bytes() == before
    assert torch.equal(open_weights(path)["a.weight"].load(), TENSORS["a.weight"])


def test_a_failing_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, {"old": torch.ones(2)})

    def fails() -> torch.Tensor:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_safetensors(path, {"new": Planned(torch.float32, (2,), fails)})
    assert list(open_weights(path)) == ["old"]
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_unwritable_place_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_safetensors(tmp_path / "file" / "x", {"a": torch.ones(1)})


def raw_file(path: Path, header: object, data: bytes = bytes(16)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def row(dtype: object = "F32", shape: object = (4,), offsets: object = (0, 16)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


LIES = {
    "dtype": ({"w": row(dtype="F31")}, "dtype 'F31'.*accepted"),
    "negative size": ({"w": row(shape=[-4])}, "shape"),
    "size is a fraction": ({"w": row(shape=[4.0])}, "shape"),
    "size is true": ({"w": row(shape=[True])}, "shape"),
    "many dimensions": ({"w": row(shape=[1] * 17)}, "shape"),
    "huge shape": ({"w": row(shape=[1 << 40, 1 << 40])}, "needs .* bytes but claims 16"),
    "empty and huge": ({"w": row(shape=[1 << 40, 0], offsets=[0, 0])}, "out of all proportion"),
    "beyond the end": ({"w": row(shape=[1 << 40], offsets=[0, 1 << 42])}, "truncated"),
    "backwards": ({"w": row(offsets=[16, 0])}, "begin, end"),
    "three offsets": ({"w": row(offsets=[0, 8, 16])}, "begin, end"),
    "overlap": ({"v": row(), "w": row(shape=[2], offsets=[8, 16])}, "overlap"),
    "hole": ({"v": row(shape=[1], offsets=[0, 4]), "w": row(shape=[2], offsets=[8, 16])}, "4 bytes between"),
    "tail": ({"w": row(shape=[2], offsets=[0, 8])}, "8 bytes behind"),
    "extra field": ({"w": {**row(), "code": "x"}}, "exactly dtype"),
    "not a table": ([1, 2], "not a table"),
    "row not a table": ({"w": 3}, "exactly dtype"),
    "metadata": ({"__metadata__": {"a": 1}, "w": row()}, "__metadata__"),
    "twice": (b'{"w": 1, "w": 2}', "twice"),
    "not json": (b"{nonsense", "not valid JSON"),
    "not text": (b"\xff\xfe{}", "not UTF-8"),
    "deep": (b"[" * 500_000, "nested too deeply"),
    "long number": (b'{"w": ' + b"9" * 100_000 + b"}", "not valid JSON"),
}


@pytest.mark.parametrize("name", LIES)
def test_lying_headers(tmp_path: Path, name: str) -> None:
    header, message = LIES[name]
    path = raw_file(tmp_path / "lie.safetensors", header)
    started = time.process_time()
    with pytest.raises(InputError, match=message) as caught:
        open_weights(path)
    assert time.process_time() - started < HANG
    assert "lie.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hundred_thousand_tensors_are_refused_quickly(tmp_path: Path) -> None:
    rows = b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % i for i in range(100_001))
    path = raw_file(tmp_path / "many.safetensors", b"{" + rows + b"}")
    with pytest.raises(InputError, match="100001 tensors"):
        open_weights(path)


@pytest.mark.parametrize("keep", [0, 3, 8, 20, 400, -1])
def test_truncation_anywhere(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "x.safetensors"
    write_safetensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"truncated|empty|too few"):
        open_weights(path)


WRONG_FILES = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 4265380512\n", "git-lfs pointer"),
    "page": (b"\n<!DOCTYPE html><html><title>404</title>", "web page"),
    "server": (b'{"error": "Access to model is restricted"}', "message of a server"),
    "zeros": (bytes(4096), "nothing but zeros"),
    "gguf": (b"GGUF\x03" + bytes(100), "GGUF"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "archive"),
    "tar": (bytes(range(200)) + bytes(57) + b"ustar" + bytes(300), "tar archive"),
    "empty": (b"", r"^\S+model\.safetensors is empty"),
    "claims terabytes": ((1 << 42).to_bytes(8, "little") + b"{}", "truncated or not a safetensors"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_files_that_are_something_else(tmp_path: Path, name: str) -> None:
    content, message = WRONG_FILES[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_weights(path)


def test_unfinished_download_is_named(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x", TENSORS)
    path = tmp_path / "x.safetensors.part"
    path.write_bytes((tmp_path / "x").read_bytes()[:-5])
    with pytest.raises(InputError, match="unfinished download"):
        open_weights(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        open_weights(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="is a folder"):
        open_weights(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is a pipe or a device, expected is a file"):
        open_weights(tmp_path / "pipe")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_not_finite_is_named(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    bad = torch.ones(2, 2, dtype=dtype)
    bad[1, 0] = value
    write_safetensors(tmp_path / "x.safetensors", {"good": torch.ones(5), "bad.weight": bad})
    with pytest.raises(InputError, match=r"bad\.weight.*NaN"):
        open_weights(tmp_path / "x.safetensors").require_finite()


def test_large_but_finite_is_accepted(tmp_path: Path) -> None:
    write_safetensors(
        tmp_path / "x.safetensors",
        {"large": torch.full((4,), 3e38), "double": torch.full((4,), 1e300, dtype=torch.float64)},
    )
    open_weights(tmp_path / "x.safetensors").require_finite()


def sharded(folder: Path) -> Path:
    write_safetensors(folder / "m-1.safetensors", {"a": torch.ones(2)})
    write_safetensors(folder / "m-2.safetensors", {"b": torch.zeros(3)})
    index = {"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    (folder / "m.safetensors.index.json").write_text(json.dumps(index))
    return folder / "m.safetensors.index.json"


def test_shards_read_as_one(tmp_path: Path) -> None:
    weights = open_weights(sharded(tmp_path))
    assert torch.equal(weights["a"].load(), torch.ones(2))
    assert torch.equal(weights["b"].load(), torch.zeros(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c": "m-1.safetensors"}, "lacks tensor 'c'"),
        ({"c": "../m-1.safetensors"}, "not the name of a file"),
        ({"c": "m-3.safetensors"}, "there is no file"),
    ],
)
def test_shard_tables_that_lie(tmp_path: Path, change: dict[str, str], message: str) -> None:
    path = sharded(tmp_path)
    index = json.loads(path.read_text())
    index["weight_map"].update(change)
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        open_weights(path)
