"""Torch files: whatever `torch.save` writes is read without unpickling; hostile pickles stay inert and end soon."""

import functools
import io
import os
import pickle
import pickletools
import struct
import time
import zipfile
from collections import OrderedDict
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom.checkpoints.harmful import is_harmful
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.pickle_machine import Call, Global, PickleError, load_pickle
from darkroom.errors import InputError

# Seconds of processor time. A second is what is promised of a usual machine; what is caught here would take minutes.
HANG = 10


class Framework:
    """Stands for the classes that training frameworks leave in their checkpoints."""

    def __init__(self) -> None:
        self.state = {"nested": [torch.ones(2)]}


BASE = torch.arange(24.0).reshape(4, 6)
STATE = OrderedDict(
    weight=BASE.clone(),
    transposed=BASE.t(),
    window=BASE[1:3, 2:4],
    parameter=torch.nn.Parameter(BASE * 2),
    half=BASE.half(),
    brain=BASE.bfloat16(),
    double=BASE.double(),
    eight=BASE.to(torch.float8_e4m3fn),
    index=torch.arange(5),
    flag=torch.tensor([True, False]),
    scalar=torch.tensor(0.18215),
    empty=torch.empty(0, 4),
)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_tensor_of_torch_save(tmp_path: Path, zipped: bool, protocol: int) -> None:
    content = {"state_dict": STATE, "global_step": 470000, "callbacks": {Framework: Framework()}, "other": [{1, 2}]}
    path = tmp_path / "model.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    weights = open_weights(path)
    assert set(weights) == set(STATE)
    assert weights.metadata == {"global_step": "470000"}
    for name, tensor in STATE.items():
        loaded = weights[name].load()
        assert loaded.dtype == tensor.dtype
        assert torch.equal(loaded.double(), tensor.double()), name


@pytest.mark.parametrize("content", [STATE, {"model": STATE, "epoch": 3}, {"params_ema": STATE}])
def test_state_dict_elsewhere(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "m.pt")
    assert set(open_weights(tmp_path / "m.pt")) == set(STATE)


def test_shared_storage_is_read_for_both(tmp_path: Path) -> None:
    torch.save({"a": BASE, "b": BASE}, tmp_path / "m.pt")
    weights = open_weights(tmp_path / "m.pt")
    assert torch.equal(weights["a"].load(), weights["b"].load())


@pytest.mark.parametrize(("content", "message"), [([1, 2], "holds a list"), ({"a": 1}, "no tensors")])
def test_files_without_a_state_dict(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(InputError, match=message):
        open_weights(tmp_path / "m.pt")


def test_whole_modules_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.linear\.Linear"):
        open_weights(tmp_path / "m.pt")


def zip_with(path: Path, data: bytes, storages: dict[str, bytes] | None = None, **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("archive/data.pkl", data)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return path


class Touch:
    """Unpickled by Python, this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_malicious_pickle_does_nothing(tmp_path: Path, protocol: int) -> None:
    evil = {"state_dict": {"w": Touch(tmp_path / "zipped")}, "x": Touch(tmp_path / "zipped")}
    path = zip_with(tmp_path / "m.ckpt", pickle.dumps(evil, protocol))
    with pytest.raises(InputError, match=r"m\.ckpt: .* would reach for .*open .*malicious"):
        open_weights(path)
    bare = tmp_path / "bare.ckpt"
    bare.write_bytes(pickle.dumps(Touch(tmp_path / "bare"), protocol))
    with pytest.raises(InputError):
        open_weights(bare)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bare.ckpt", "m.ckpt"]
    pickle.loads(pickle.dumps(Touch(tmp_path / "proof"))).close()  # Python's own reader would have done it
    assert (tmp_path / "proof").exists()


def test_tensors_beside_malice_are_refused_with_it(tmp_path: Path) -> None:
    """The tensors could be read without harm, yet the user should know what the file was made for."""

    class Module(torch.nn.Module):
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'created'}",)

    torch.save({"state_dict": {"w": BASE}, "callbacks": Module()}, tmp_path / "m.ckpt")
    with pytest.raises(InputError, match=r"m\.ckpt: .* would reach for \w+\.system .*malicious"):
        open_weights(tmp_path / "m.ckpt")
    assert not (tmp_path / "created").exists()


def test_other_pickles_are_called_that(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(InputError, match=r"m\.bin is a pickle but not one of torch"):
        open_weights(tmp_path / "m.bin")


def test_training_frameworks_objects_are_skipped(tmp_path: Path) -> None:
    """Classes as keys, objects made by unknown classes, and functions held by name."""
    strange = {Fraction: Fraction(1, 3), "partial": functools.partial(max, 2), "path": tmp_path, "when": datetime.now()}
    torch.save({"state_dict": {"w": BASE}, "callbacks": strange, "loops": [strange]}, tmp_path / "m.ckpt")
    assert torch.equal(open_weights(tmp_path / "m.ckpt")["w"].load(), BASE)


@pytest.mark.parametrize(
    ("name", "harmful"),
    [
        ("posix.system", True),
        ("os.path.join", True),
        ("torch.serialization.os.system", True),
        ("builtins.eval", True),
        ("numpy.__builtins__.exec", True),
        ("_io.open", True),
        ("subprocess.Popen", True),
        ("torch.hub.load", True),
        ("builtins.set", False),
        ("collections.OrderedDict", False),
        ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", False),
        ("omegaconf.base.ContainerMetadata", False),
        ("torch.optim.adamw.AdamW", False),
        ("numpy.core.multiarray.scalar", False),
        ("pathlib.PosixPath", False),
    ],
)
def test_what_is_harmful(name: str, harmful: bool) -> None:
    assert is_harmful(name) == harmful


def test_machine_equals_pickle_on_plain_values() -> None:
    value = {
        "text": "ä" * 300,
        "numbers": [0, 1, -1, 255, 256, 70000, 1 << 40, -(1 << 80), 0.5, True, False, None],
        "bytes": b"\0\xff" * 200,
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        3: {"nested": {"x": [[[]]]}},
    }
    value["again"] = value["tuples"]
    for protocol in range(6):
        if protocol < 3:
            value.pop("bytes", None)  # bytes are a call there
    for protocol in range(6):
        assert load_pickle(pickle.dumps(value, protocol), "x").value == value


def test_every_opcode_of_python_is_known_or_refused() -> None:
    refused = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER"}  # registries and out-of-band buffers of one process
    for code in pickletools.opcodes:
        if code.name == "STOP":
            continue
        with pytest.raises(PickleError) as caught:
            load_pickle(code.code.encode("latin-1"), "x")
        assert ("unknown opcode" in str(caught.value)) == (code.name in refused), code.name


def op(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


BOMBS = {
    "text of 4 GB": op(b"X", struct.pack("<I", 0xFFFFFFFF), b"abc"),
    "bytes of 2**63": op(b"\x8e", struct.pack("<Q", 1 << 63)),
    "bytearray of 2**62": op(b"\x96", struct.pack("<Q", 1 << 62)),
    "frame of 2**60": op(b"\x95", struct.pack("<Q", 1 << 60)),
    "negative text": op(b"T", struct.pack("<i", -5)),
    "memo at 4 G": op(b"N", b"r", struct.pack("<I", 0xFFFFFFFF)),
    "nesting": op(b"(" * 400_000),
    "nested lists": op(b"]" * 200_000, b"a" * 199_999),
    "nested tuples": op(b")", b"\x85" * 400_000),
    "nested calls": op(b"csome\nclass\n", b")R" * 200_000),
    "hash bomb": op(b")", b"q\x00h\x00\x86" * 100, b"}", b"h\x00Ns" * 10),
    "dict of tuple keys": op(b"}", b")", b"2\x86" * 60, b"Ns"),
    "doubling lists": op(b"]", b"q\x00h\x00h\x00\x86" * 50),
    "long keys": op(b"X", struct.pack("<I", 100_000), b"k" * 100_000, b"q\x000", b"}", b"h\x00Ns" * 100_000),
    "endless work": op(b"N0" * 3_000_000),
    "digits": op(b"I", b"9" * 1_000_000, b"\n"),
    "missing memo": op(b"h\x07"),
    "empty stack": op(b"R"),
    "mark underflow": op(b"(", b"N", b"(", b"R"),
    "class by number": op(b"K\x01K\x02\x93"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_within_a_second(tmp_path: Path, name: str) -> None:
    path = zip_with(tmp_path / "bomb.ckpt", BOMBS[name])
    started = time.process_time()
    with pytest.raises(InputError, match=r"bomb\.ckpt"):
        open_weights(path)
    assert time.process_time() - started < HANG


def test_setting_state_touches_nothing_real() -> None:
    before = dict(vars(OrderedDict))
    value = load_pickle(op(b"ccollections\nOrderedDict\n", b"}X\x04\0\0\0evilK\x01sb"), "x").value
    assert isinstance(value, Global)
    assert dict(vars(OrderedDict)) == before
    call = load_pickle(op(b"csome\nclass\n", b"X\x02\0\0\0ls\x85R}X\x01\0\0\0aK\x01sb"), "x").value
    assert isinstance(call, Call)
    assert (call.arguments, call.state) == (("ls",), {"a": 1})


def tensor_pickle(
    shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, count: int = 4, key: str = "0"
) -> bytes:
    """A state dict with one float tensor, described by any numbers."""

    class Storage:
        pass

    class Described:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, shape, stride, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> Any:
            return ("storage", torch.FloatStorage, key, "cpu", count) if isinstance(obj, Storage) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump({"w": Described()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tensor_pickle((5,), (1,)), "does not fit"),
        (tensor_pickle((2, 2), (2, 2)), "does not fit"),
        (tensor_pickle((4,), (1,), offset=1), "does not fit"),
        (tensor_pickle((4,), (1,), count=1 << 40), "does not fit"),
        (tensor_pickle((1 << 40,), (0,)), "does not fit"),
        (tensor_pickle((1 << 47, 1 << 47), (0, 0)), "does not fit"),
        (tensor_pickle((-1,), (1,)), "shape"),
        (tensor_pickle((2,), (1, 1)), "shape"),
        (tensor_pickle((4,), (1,), key="7"), "not in the file"),
    ],
)
def test_descriptions_that_reach_beyond_their_storage(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_weights(zip_with(tmp_path / "m.ckpt", data, {"0": bytes(16)}))


def test_a_true_description_is_read(tmp_path: Path) -> None:
    data = tensor_pickle((2, 2), (1, 2))
    path = zip_with(tmp_path / "m.ckpt", data, {"0": struct.pack("<4f", 1, 2, 3, 4)})
    assert open_weights(path)["w"].load().tolist() == [[1, 3], [2, 4]]


def test_zip_files_that_lie(tmp_path: Path) -> None:
    good = zip_with(tmp_path / "m.ckpt", tensor_pickle((4,), (1,)), {"0": bytes(16)}).read_bytes()
    path = tmp_path / "bad.ckpt"
    for keep in (10, 60, len(good) // 2, len(good) - 30, len(good) - 5):
        path.write_bytes(good[:keep])
        with pytest.raises(InputError, match="damaged or truncated"):
            open_weights(path)
    directory = good.rindex(b"PK\x01\x02")  # of the last record: the sizes stand 20 bytes behind
    path.write_bytes(good[: directory + 20] + struct.pack("<II", 1 << 30, 1 << 30) + good[directory + 28 :])
    with pytest.raises(InputError, match=r"of 1073741824 bytes reaches beyond its end"):
        open_weights(path)
    packed = zip_with(tmp_path / "p.ckpt", b"N." * 50, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="compressed"):
        open_weights(packed)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=r"no single data\.pkl"):
        open_weights(tmp_path / "other.zip")


def test_truncated_legacy_file(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "m.pt").read_bytes()
    for keep in (3, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.pt").write_bytes(content[:keep])
        with pytest.raises(InputError, match=r"cut\.pt"):
            open_weights(tmp_path / "cut.pt")
