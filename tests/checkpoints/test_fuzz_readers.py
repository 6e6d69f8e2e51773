"""Ten thousand damaged files for each reader: an answer or an `InputError`, soon, and nothing is ever run."""

import io
import pickle
import random
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from darkroom.checkpoints.open_file import read_weights
from darkroom.checkpoints.stored import MappedFile
from darkroom.errors import InputError

MUTATIONS = 10_000
SLOWEST = 10.0  # seconds of processor time for one file of a few kilobytes: anything that slow hangs
EXTREMES = [b"\0" * 4, b"\xff" * 4, b"\xff" * 8, struct.pack("<Q", 1 << 40), struct.pack("<i", -1), b"\x7f\xff\xff\xff"]


def mutate(content: bytes, rng: random.Random, words: list[bytes]) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[at : at + rng.randrange(1, 9)] = rng.choice(EXTREMES)
        elif kind == 3:
            data[at:at] = rng.choice(words)
        elif kind == 4:
            other = rng.randrange(len(data) + 1)
            data[at:at] = data[other : other + rng.randrange(1, 64)]
        elif kind == 5 and data:
            data[at % len(data)] = rng.choice(b"0123456789")  # keeps a header legible and makes it wrong
        elif rng.random() < 0.3:
            del data[at:]
        else:
            del data[at : at + rng.randrange(1, 16)]
    return bytes(data)


def fuzz(make: Callable[[random.Random], bytes]) -> int:
    """Open every mutation and load what it claims to hold; how many were readable."""
    rng, readable, named = random.Random(0), 0, 0
    for _ in range(MUTATIONS):
        content = make(rng)
        started = time.process_time()
        try:
            for stored in read_weights(MappedFile.from_bytes(content, "fuzzed")).values():
                assert stored.nbytes <= 1 << 16
                stored.load(torch.float32)
            readable += 1
        except InputError as error:
            named += "fuzzed" in str(error)
        assert time.process_time() - started < SLOWEST
    assert readable + named == MUTATIONS  # every error names its file
    return readable


def test_safetensors() -> None:
    tensors = {"a.weight": torch.ones(3, 4), "b": torch.ones(5, dtype=torch.float16), "c": torch.tensor(3)}
    good = save(tensors, {"note": "text"})
    length = int.from_bytes(good[:8], "little")
    header, data = good[8 : 8 + length], good[8 + length :]
    words = [b"F64", b"U8", b"[", b"{", b'"', b",", b"0", b"99999999999", b"-1", b"1e9", b"null", b"NaN", b'"shape":']

    def make(rng: random.Random) -> bytes:
        if rng.random() < 0.4:  # anywhere in the file
            return mutate(good, rng, words)
        changed = mutate(header, rng, words)  # in the header, its length kept true
        return len(changed).to_bytes(8, "little") + changed + data

    assert 0 < fuzz(make) < MUTATIONS


class Run:
    """Would create a file if anything called it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return open, (self.path, "w")


def test_torch_files(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    opcodes = [bytes([code]) for code in b"()RRbboidescQ02}]\x81\x92\x93\x94\x85\x86\x87"]
    words = [*opcodes, b"cos\nsystem\n", b"cbuiltins\neval\n", b"X\x02\0\0\0ls\x85R", pickle.dumps(Run(str(mark)))]
    tensors = {"a": torch.ones(3, 4), "b": torch.ones(5, dtype=torch.float16)}
    good = {"state_dict": tensors, "global_step": 3, "callbacks": {Path: [Path("x")]}}
    files = []
    for content in (good, {**good, "evil": Run(str(mark))}):  # the second is refused unless a mutation hides it
        zipped, legacy = io.BytesIO(), io.BytesIO()
        torch.save(content, zipped)
        torch.save(content, legacy, _use_new_zipfile_serialization=False)
        with zipfile.ZipFile(zipped) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        files.append((zipped.getvalue(), legacy.getvalue(), records))

    def make(rng: random.Random) -> bytes:
        zipped, legacy, records = rng.choice(files)
        root, kind = next(iter(records)).split("/")[0], rng.randrange(4)
        if kind == 0:
            return mutate(zipped, rng, words)
        if kind == 1:
            return mutate(legacy, rng, words)
        changed = io.BytesIO()  # the pickle alone, in a sound archive
        with zipfile.ZipFile(changed, "w") as archive:
            for name, record in records.items():
                archive.writestr(name, mutate(record, rng, words) if name == f"{root}/data.pkl" else record)
        return changed.getvalue()

    mark.unlink(missing_ok=True)
    assert 0 < fuzz(make) < MUTATIONS
    assert not mark.exists()
