"""Safetensors: the header is checked whole before anything is allocated, tensors are mapped, files written atomically.

A file is the header's length (8 bytes, little-endian), the header (JSON: name → dtype, shape, data_offsets, and
`__metadata__` with texts), then the tensors' bytes without holes. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.checkpoints.stored import KINDS, MappedFile, Stored, Weights, is_proportioned, size_of
from darkroom.errors import InputError, cause
from darkroom.json_file import parse_table
from darkroom.whole_file import whole_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Planned", "plan", "read_safetensors", "write_safetensors"]

MAX_HEADER = 32 << 20  # bytes; the largest public model has 0.4 MB, the rest is room for training notes
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 16


def read_safetensors(file: MappedFile) -> Weights:
    """The tensors of a mapped file. Raises `InputError` naming file and cause for any lie in the header."""
    where = str(file.path)
    if file.size < 8:
        raise InputError(f"{where} is not a safetensors file: {file.size} bytes are too few for a header")
    length = int.from_bytes(file.bytes(0, 8), "little")
    if length > file.size - 8:
        raise InputError(
            f"{where} is truncated or not a safetensors file: it announces a header of {length} bytes "
            f"but holds only {file.size} bytes in all"
        )
    if length > MAX_HEADER:
        raise InputError(f"{where}: a header of {length} bytes is announced, accepted are at most {MAX_HEADER}")
    header = parse_table(file.bytes(8, 8 + length), f"{where}: the header", unique=True)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise InputError(f"{where}: __metadata__ in the header is not a table of texts")
    if len(header) > MAX_TENSORS:
        raise InputError(f"{where}: {len(header)} tensors are announced, accepted are at most {MAX_TENSORS}")
    begin, room = 8 + length, file.size - 8 - length
    entries = {name: _entry(file, begin, room, name, row, where) for name, row in header.items()}
    _require_seamless(entries, begin, file.size, where)
    return Weights(file.path, entries, metadata)


def _entry(file: MappedFile, begin: int, room: int, name: str, row: object, where: str) -> Stored:
    def wrong(cause: str) -> InputError:
        return InputError(f"{where}: tensor {name[:200]!r} {cause}")

    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise wrong("needs exactly dtype, shape and data_offsets")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in KINDS:
        raise wrong(f"has dtype {str(dtype)[:40]!r}, accepted are: {', '.join(KINDS)}")
    if not _is_counts(shape) or len(shape) > MAX_DIMENSIONS:
        raise wrong("has a shape that is not a short list of sizes")
    if not _is_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise wrong("has data_offsets that are not [begin, end]")
    if offsets[1] > room:
        raise wrong(f"ends at byte {begin + offsets[1]} but the file at byte {begin + room}: truncated download?")
    if not is_proportioned(shape):
        raise wrong(f"is empty and has a shape out of all proportion, {shape}")
    size = math.prod(shape) * size_of(KINDS[dtype])
    if size != offsets[1] - offsets[0]:
        raise wrong(f"of shape {shape} and dtype {dtype} needs {size} bytes but claims {offsets[1] - offsets[0]}")
    return Stored(file, begin + offsets[0], KINDS[dtype], tuple(shape))


def _is_counts(value: object) -> bool:
    """A list of whole numbers from 0 to 2**62, so that products of a few stay cheap."""
    return isinstance(value, list) and all(type(v) is int and 0 <= v < 1 << 62 for v in value)


def _require_seamless(entries: Mapping[str, Stored], begin: int, end: int, where: str) -> None:
    at, before = begin, "the header"
    for name, stored in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if stored.offset < at:
            raise InputError(f"{where}: tensors {before!r} and {name!r} overlap")
        if stored.offset > at:
            raise InputError(f"{where}: {stored.offset - at} bytes between {before!r} and {name!r} belong to no tensor")
        at, before = stored.offset + stored.nbytes, name
    if at != end:
        raise InputError(f"{where}: {end - at} bytes behind the last tensor belong to nothing")


@dataclass(frozen=True)
class Planned:
    """A tensor to be written: known in advance, made when its turn comes, so that one at a time is in memory."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], Tensor]


def plan(tensors: Mapping[str, Tensor]) -> dict[str, Planned]:
    """The plan for tensors that are in memory already."""
    return {name: Planned(t.dtype, tuple(t.shape), lambda t=t: t) for name, t in tensors.items()}


def write_safetensors(
    path: Path | str,
    tensors: Mapping[str, Planned] | Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors` with `metadata` to `path`: either the whole file appears there or nothing changes."""
    import torch

    planned = {name: t if isinstance(t, Planned) else plan({name: t})[name] for name, t in tensors.items()}
    names = {getattr(torch, kind): name for name, kind in KINDS.items()}
    # Widest types first keeps every tensor aligned; within a type names are sorted, so equal tensors give equal files.
    order = sorted(planned, key=lambda name: (-planned[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for name in order:
        dtype, shape = planned[name].dtype, planned[name].shape
        end = at + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": names[dtype], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    raw += b" " * (-len(raw) % 8)

    def chunks() -> Iterable[bytes | memoryview]:
        yield len(raw).to_bytes(8, "little")
        yield raw
        for name in order:
            wanted, tensor = planned[name], planned[name].make()
            if tensor.dtype != wanted.dtype or tuple(tensor.shape) != wanted.shape:
                raise RuntimeError(f"{name} is {tensor.dtype} {tuple(tensor.shape)}, announced was {wanted}")
            flat = tensor.detach().to("cpu").contiguous().view(-1)
            yield memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]  # arrays are buffers

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {cause(error)}") from None
    with whole_file(path) as file:
        for chunk in chunks():
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())  # a power cut leaves the file that was there before, or this one
