"""Where the records of a zip file lie. Torch stores them uncompressed, so that they can be mapped.

Layout: PKWARE's APPNOTE.TXT, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14 and on (its end, ZIP64).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from darkroom.checkpoints.stored import MappedFile
from darkroom.errors import InputError

__all__ = ["Record", "read_zip_directory"]

MAX_DIRECTORY = 32 << 20  # bytes; about 100 for a tensor
_FAR = 0xFFFFFFFF  # "the true value is in the ZIP64 record"


@dataclass(frozen=True)
class Record:
    start: int  # of the data, bytes from the beginning of the file
    stop: int


def read_zip_directory(file: MappedFile) -> dict[str, Record]:
    """Name → place of every stored record; raises `InputError` for anything truncated, compressed or out of bounds."""
    count, start, size = _find_directory(file)
    raw = file.bytes(start, start + size)
    records: dict[str, Record] = {}
    at = 0
    for _ in range(count):
        if raw[at : at + 4] != b"PK\x01\x02" or at + 46 > len(raw):
            raise _damaged(file, "its directory is cut off")
        flags, method, packed, plain = struct.unpack_from("<8xHH8xII", raw, at)
        name_length, extra_length, comment_length, local = struct.unpack_from("<28xHHH8xI", raw, at)
        at += 46
        name = raw[at : at + name_length].decode("utf-8", "replace")
        extra = raw[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        plain, packed, local = _widen(extra, plain, packed, local)
        if method != 0 or packed != plain or flags & 1:
            raise InputError(
                f"{file.path}: record {name[:200]!r} is compressed or encrypted; torch stores them plainly"
            )
        records[name] = _locate(file, name, local, plain)
    return records


def _find_directory(file: MappedFile) -> tuple[int, int, int]:
    """Number of records, start and size of the central directory."""
    end = file.find_last(b"PK\x05\x06", max(0, file.size - 65557))  # a comment of up to 65535 bytes may follow
    if end < 0 or end + 22 > file.size:
        raise _damaged(file, "it does not end like one")
    count, size, start = struct.unpack("<10xHII2x", file.bytes(end, end + 22))
    locator = file.bytes(end - 20, end) if end >= 20 else b""
    if locator[:4] == b"PK\x06\x07":
        (far,) = struct.unpack("<8xQ4x", locator)
        wide = file.bytes(far, far + 56) if far < file.size else b""
        if len(wide) != 56 or wide[:4] != b"PK\x06\x06":
            raise _damaged(file, "its ZIP64 record is missing")
        count, size, start = struct.unpack("<32xQQQ", wide)
    if start + size > file.size or count * 46 > size:
        raise _damaged(file, f"its directory of {count} records does not fit into the file")
    if size > MAX_DIRECTORY:
        raise InputError(f"{file.path}: a directory of {size} bytes is announced, accepted are at most {MAX_DIRECTORY}")
    return count, start, size


def _widen(extra: bytes, plain: int, packed: int, local: int) -> tuple[int, int, int]:
    """Replace 32-bit values that say "too large" by those of the ZIP64 field, which holds only the needed ones."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = iter(n for (n,) in struct.iter_unpack("<Q", extra[at + 4 : at + 4 + length // 8 * 8]))
            plain = next(numbers, plain) if plain == _FAR else plain
            packed = next(numbers, packed) if packed == _FAR else packed
            local = next(numbers, local) if local == _FAR else local
        at += 4 + length
    return plain, packed, local


def _locate(file: MappedFile, name: str, local: int, size: int) -> Record:
    header = file.bytes(local, local + 30) if local < file.size else b""
    if len(header) != 30 or header[:4] != b"PK\x03\x04":
        raise _damaged(file, f"record {name[:200]!r} is not where the directory says")
    name_length, extra_length = struct.unpack("<26xHH", header)
    start = local + 30 + name_length + extra_length
    if start + size > file.size:
        raise _damaged(file, f"record {name[:200]!r} of {size} bytes reaches beyond its end")
    return Record(start, start + size)


def _damaged(file: MappedFile, cause: str) -> InputError:
    return InputError(f"{file.path} is a damaged or truncated zip file: {cause}")
