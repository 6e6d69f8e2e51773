"""The folder of a run: who owns it, whose run it is, and in which precision it computes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch

from darkroom.config import to_dict
from darkroom.errors import InputError, cause, require
from darkroom.json_file import read_json
from darkroom.nn.device import find_device
from darkroom.nn.precision import fast_half
from darkroom.training.checkpoints import Checkpoints
from darkroom.training.config import LoopConfig
from darkroom.whole_file import made_folder, whole_file

__all__ = ["natural_precision", "open_run", "recorded", "resolved"]

RECIPE, LOCK = "recipe.json", ".lock"
OLD_CHECKPOINT = "checkpoint.pt"  # of earlier versions

# Keys of a recipe that a run may change as it goes on: what they say does not touch the numbers.
FREE = (
    *("loop.device", "loop.workers", "loop.log_every", "loop.sample_every", "loop.save_every"),
    *("loop.data_parallel", "loop.gradient_checkpointing", "loop.compile"),
    *("prompts", "samples", "latent_cache", "text_cache", "prior.folder", "validation.every", "metrics"),
)
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # of `whole_file`


def natural_precision(device: str) -> Literal["fp32", "bf16"]:
    """What a new run on `device` computes in: bf16 where that is fast, else float32; fp16 would need scaled losses."""
    return "bf16" if fast_half(find_device(device)) is torch.bfloat16 else "fp32"


def resolved(config: LoopConfig, folder: Path) -> LoopConfig:
    """`config` with its precision decided: as the run in `folder` began, else as its device likes best."""
    if config.precision != "auto":
        return config
    if Checkpoints(folder, print):
        match recorded(folder):
            case {"loop": {"precision": "fp32" | "bf16" as precision}}:
                return replace(config, precision=precision)
    return replace(config, precision=natural_precision(config.device))


@contextmanager
def open_run(folder: Path, recipe: Any, config: LoopConfig) -> Iterator[None]:
    """Own `folder` while the block runs, made if need be, with the recipe written down.

    Raises `InputError` if another process owns it or if it holds the run of another recipe, naming the keys. Files that
    killed processes left half-written are removed.
    """
    made_folder(folder)
    with _owned(folder):
        _sweep(folder)
        _record(folder, recipe, config)
        yield


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """The lock goes with the process, however that ends; processes that it forks do not have it."""
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise InputError(f"the run cannot be written to {folder}: {cause(error)}") from None
    try:
        require(stat.S_ISREG(os.fstat(descriptor).st_mode), str(path), "a pipe or a device", "a file")
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(descriptor, 200).decode(errors="replace").strip()
            raise InputError(f"{folder} is in use by {owner or 'another process'}: one run a folder") from None
        os.ftruncate(descriptor, 0)
        now = datetime.now().isoformat(" ", "seconds")
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    Checkpoints(folder, print).sweep()
    for place in (folder, folder / "samples"):
        for left in place.glob(".*"):
            if left.is_file() and TEMPORARY.fullmatch(left.name):
                left.unlink(missing_ok=True)


def _record(folder: Path, recipe: Any, config: LoopConfig) -> None:
    """Write down whose run `folder` holds; refuse one that holds the run of another recipe."""
    told = to_dict(recipe)
    if isinstance(told, dict) and "loop" in told:
        told["loop"] = to_dict(config)
    if (folder / OLD_CHECKPOINT).exists() and not Checkpoints(folder, print):
        raise InputError(f"{folder / OLD_CHECKPOINT} is of an earlier version; move it away to begin again")
    written = folder / RECIPE
    if Checkpoints(folder, print) and written.exists():
        before, now = _flat(recorded(folder)), _flat(told)
        changed = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k) and not _free(k, now)]
        if changed:
            raise InputError(f"{folder} holds the run of another recipe: {_differences(before, now, changed)}")
    with whole_file(written) as file:
        file.write(json.dumps(told, indent=1, sort_keys=True).encode())


def _free(key: str, recipe: Mapping[str, Any]) -> bool:
    """Whether a run may change `key` as it goes on; how long it goes matters only where the rate falls by it."""
    if key == "loop.steps":
        return recipe.get("loop.lr_schedule", "constant") == "constant"
    return any(key == free or key.startswith((f"{free}.", f"{free}[")) for free in FREE)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], keys: list[str]) -> str:
    told = [f"its {k} is {_told(before, k)}, now it is {_told(now, k)}" for k in keys[:3]]
    more = f"; and {len(keys) - 3} keys more" if len(keys) > 3 else ""
    return f"{'; '.join(told)}{more}. Go on with the same settings or choose another folder"


def _told(recipe: Mapping[str, Any], key: str) -> str:
    return json.dumps(recipe[key], default=str) if key in recipe else "not given"


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Plain data as one table of dotted keys."""
    if isinstance(value, Mapping):
        return {k: v for name, item in value.items() for k, v in _flat(item, f"{key}.{name}".lstrip(".")).items()}
    if isinstance(value, (list, tuple)):
        return {k: v for i, item in enumerate(value) for k, v in _flat(item, f"{key}[{i}]").items()}
    return {key: value}


def recorded(folder: Path) -> Any:
    """The recipe of the run in `folder` as plain data; None if it cannot be read."""
    try:
        return read_json(folder / RECIPE)
    except InputError:
        return None
