"""Hashes of model files, as other tools write them, computed once for each file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from darkroom.errors import InputError, cause
from darkroom.input_file import open_input
from darkroom.whole_file import whole_file

__all__ = ["lora_hash", "model_hash", "sha256"]


def model_hash(path: Path) -> str:
    """The first ten hex digits of the file's sha256: what A1111 calls the model hash."""
    return sha256(path)[:10]


def lora_hash(path: Path) -> str:
    """The first twelve hex digits of what A1111 tells LoRAs by: the sha256 of what lies behind a
    safetensors header, of other containers that of the whole file."""
    try:
        with open_input(path) as file:
            head = file.read(9)
        start = 8 + int.from_bytes(head[:8], "little")
        is_safetensors = head[8:] == b"{" and start <= path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be read: {cause(error)}") from None
    return sha256(path, start if is_safetensors else 0)[:12]


def sha256(path: Path, start: int = 0) -> str:
    """Of the bytes from `start` on. Remembered in the user's cache as long as size and time of the file stay."""
    try:
        status = path.stat()
        key = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}:{start}"
        known = _read_cache()
        if key not in known:
            known[key] = _compute(path, start)
            _write_cache(known)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {cause(error)}") from None
    return known[key]


def _compute(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    with open_input(path) as file:
        file.seek(start)
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "darkroom" / "hashes.json"


def _read_cache() -> dict[str, str]:
    try:
        table = json.loads(_cache_file().read_text())
    except (OSError, ValueError, RecursionError):
        return {}  # not there yet, or damaged: it is only a cache
    return {k: v for k, v in table.items() if isinstance(v, str)} if isinstance(table, dict) else {}


def _write_cache(table: dict[str, str]) -> None:
    kept = dict(list(table.items())[-1000:])
    path = _cache_file()
    with contextlib.suppress(InputError, OSError):  # without a place for it, hashes are computed anew
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(json.dumps(kept).encode())
