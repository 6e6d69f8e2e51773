"""Tensors that still lie in a file: what they are is known, their bytes are mapped and only read when asked for.

PyTorch is imported where numbers are read: what a file holds is told without it.
"""

from __future__ import annotations

import math
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.errors import InputError, cause
from darkroom.input_file import open_input

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["KINDS", "MappedFile", "Stored", "Weights", "all_finite", "is_proportioned", "size_of"]


KINDS = {  # safetensors' names for kinds of numbers: torch's
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
MAX_EMPTY = 1 << 24  # elements that an empty tensor would have if its sides of 0 were 1


def is_proportioned(shape: Sequence[int]) -> bool:
    """Whether networks may be described by `shape`: a tensor without elements takes no bytes whatever its sides are."""
    return 0 not in shape or math.prod(max(1, n) for n in shape) <= MAX_EMPTY


def size_of(kind: str) -> int:
    """The bytes of one number of `kind`, a name of torch's."""
    bits = re.search(r"\d+", kind)
    return int(bits[0]) // 8 if bits else 1  # bool


class MappedFile:
    """A file mapped into memory, private and copy-on-write: tensors may be views of it, the file never changes."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with open_input(self.path) as file:
            self.size = os.fstat(file.fileno()).st_size
            if self.size == 0:
                raise InputError(f"{self.path} is empty (0 bytes): an interrupted download?")
            try:
                self._map = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_COPY)
            except (OSError, ValueError) as error:  # a file system that maps nothing, or a file that shrinks meanwhile
                raise InputError(f"{path} cannot be read: {cause(error)}") from None

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> MappedFile:
        """The same for a file that came over the wire; `name` stands in error messages."""
        self = cls.__new__(cls)
        self.path, self.size = Path(name), len(content)
        if self.size == 0:
            raise InputError(f"{name} is empty (0 bytes): an interrupted download?")
        self._map = mmap.mmap(-1, self.size)
        self._map.write(content)
        return self

    def bytes(self, start: int, stop: int) -> bytes:
        """The bytes [start, stop); fewer where the file ends sooner."""
        return self._map[start:stop]

    def find_last(self, pattern: bytes, start: int) -> int:
        """Where `pattern` occurs last at or behind `start`; −1 if nowhere."""
        return self._map.rfind(pattern, start)

    def elements(self, start: int, dtype: torch.dtype, count: int) -> Tensor:
        """A flat view (count,) of the bytes from `start` on. The caller has checked the bounds."""
        import torch

        if count == 0:
            return torch.empty(0, dtype=dtype)
        if start % dtype.itemsize:  # old writers did not align; a view would be misaligned
            raw = torch.frombuffer(self._map, dtype=torch.uint8, count=count * dtype.itemsize, offset=start)
            return raw.clone().view(dtype)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start)

    def forget(self, start: int, stop: int) -> None:
        """Let the system take back the memory of the pages that lie wholly within [start, stop)."""
        page = mmap.PAGESIZE
        first, last = -(-start // page) * page, stop // page * page
        if last > first and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


@dataclass(frozen=True)
class Stored:
    """One tensor in a mapped file, of numbers of `kind`, a name of torch's. `stride` (in elements) is None for a plain
    contiguous tensor."""

    file: MappedFile
    offset: int  # bytes from the beginning of the file
    kind: str
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None = None

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return getattr(torch, self.kind)

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """How many elements lie between the first and the last, both counted."""
        if self.stride is None or not self.numel:
            return self.numel
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride))

    @property
    def nbytes(self) -> int:
        return self.numel * size_of(self.kind)

    def load(self, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> Tensor:
        """The tensor; integers keep their type. A view of the mapping if nothing has to be changed, else a copy."""
        flat = self.file.elements(self.offset, self.dtype, self.span)
        stored = flat.view(self.shape) if self.stride is None else flat.as_strided(self.shape, self.stride)
        wanted = dtype if dtype is not None and self.dtype.is_floating_point else self.dtype
        tensor = stored.to(device=device, dtype=wanted)
        if tensor is not stored:
            self.forget()
        return tensor

    def forget(self) -> None:
        """Give the memory of the mapped bytes back; whoever holds a view of them reads them from the file again."""
        self.file.forget(self.offset, self.offset + self.span * size_of(self.kind))


@dataclass(frozen=True)
class Weights(Mapping[str, Stored]):
    """The tensors of one file (or of the shards of one), by name, with the file's own notes."""

    path: Path
    entries: Mapping[str, Stored]
    metadata: Mapping[str, str] = field(default_factory=dict)  # text that came with the weights
    kind: str = "safetensors"  # the container, for people

    def __getitem__(self, name: str) -> Stored:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def require_finite(self) -> None:
        """Raise `InputError` naming the first tensor that holds NaN or infinity. Reads every byte once."""
        for name, stored in self.entries.items():
            if not all_finite(stored.load()):
                raise InputError(f"{self.path}: tensor {name} holds NaN or infinite values")
            stored.forget()


def all_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite; extremes show both, and finding them is several times faster than a test of
    every value."""
    import torch

    if not values.is_floating_point() or values.numel() == 0:
        return True
    low, high = torch.aminmax(values.float() if values.dtype.itemsize == 1 else values)  # 8-bit floats know no order
    return bool(low.isfinite() and high.isfinite())
