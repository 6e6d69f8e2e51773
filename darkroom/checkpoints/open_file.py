"""Open any file of weights: the container is told by its first bytes, never by its name."""

from __future__ import annotations

import re
from pathlib import Path

from darkroom.checkpoints.safetensors_file import read_safetensors
from darkroom.checkpoints.stored import MappedFile, Stored, Weights
from darkroom.checkpoints.torch_file import read_torch_legacy, read_torch_zip
from darkroom.errors import InputError
from darkroom.json_file import read_json

__all__ = ["open_weights", "read_weights"]

MAX_INDEX = 32 << 20  # bytes of the table of a sharded file
_SHARD_TABLE = re.compile(r"\.index(\.\w+)?\.json$")  # model.safetensors.index.fp16.json, if of a variant
UNFINISHED = (".part", ".crdownload", ".incomplete", ".download", ".tmp", ".aria2", ".!ut")


def open_weights(path: Path | str) -> Weights:
    """The tensors of a safetensors file, the index of a sharded one, or a torch file; nothing is loaded yet.

    Raises `InputError` naming file and cause.
    """
    path = Path(path)
    if _SHARD_TABLE.search(path.name):
        return _read_sharded(path)
    return read_weights(MappedFile(path))


def read_weights(file: MappedFile) -> Weights:
    """The same for a file that is mapped already."""
    path = file.path
    head = file.bytes(0, 512)
    if head[:4] == b"PK\x03\x04":
        return read_torch_zip(file)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and head[8:9] != b"{":
        return read_torch_legacy(file)
    cause = _what_else(head)
    if cause is not None:
        raise InputError(f"{path} {cause}")
    try:
        return read_safetensors(file)
    except InputError as error:
        if path.suffix in UNFINISHED:
            raise InputError(f"{path} is an unfinished download ({error})") from None
        raise


def _what_else(head: bytes) -> str | None:
    """What a file that holds no weights is, as far as its first bytes tell."""
    text = head.lstrip()[:64].lower()
    if text.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the weights: run `git lfs pull` in its repository"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, probably an error or a login page, not the weights: download it again"
    if text.startswith((b'{"error', b"{'error", b"entry not found", b"access to model", b"invalid credentials")):
        return "is an error message of a server, not the weights: download it again"
    if head.startswith(b"GGUF"):
        return "is a GGUF file, which is not read; accepted are safetensors and torch files"
    if head.startswith((b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b", b"\xfd7zXZ", b"(\xb5/\xfd")):
        return "is a compressed archive: unpack it first"
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it first (or save it again, if it is of torch before 0.1.10)"
    if not head.strip(b"\0"):
        return "begins with nothing but zeros: a download that reserved its space and then stopped"
    return None


def _read_sharded(path: Path) -> Weights:
    index = read_json(path, MAX_INDEX)
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(v, str) for v in shards.values()):
        raise InputError(f"{path}: weight_map, the table from tensor to file, is missing")
    opened: dict[str, Weights] = {}
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not name.endswith((".safetensors", ".bin")):
            raise InputError(f"{path}: {name!r} is not the name of a file beside it")
        opened[name] = open_weights(path.parent / name)
    entries: dict[str, Stored] = {}
    for tensor, name in shards.items():
        if tensor not in opened[name]:
            raise InputError(f"{path.parent / name} lacks tensor {tensor!r}, which {path.name} places there")
        entries[tensor] = opened[name][tensor]
    left = [t for weights in opened.values() for t in weights if t not in entries]
    if left:
        raise InputError(f"{path} does not list the tensor {left[0]!r} of its shards")
    first = next(iter(opened.values()), None)
    return Weights(path, entries, first.metadata if first else {}, "sharded")
