"""C sources of this folder as libraries, built with the compiler at hand when they are first needed."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import torch

__all__ = ["in_threads", "library"]

SWITCH = "DARKROOM_NATIVE"  # set to 0 to do without
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-ffp-contract=fast", "-fPIC", "-shared")


def library(source: str) -> ctypes.CDLL | None:
    """The library of the file `source`, or None: no compiler, or switched off. Kept in the user's cache once built."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.environ.get(SWITCH) == "0" or compiler is None:
        return None
    text = (files("darkroom.nn.native") / source).read_bytes()
    name = hashlib.sha256(text + repr(FLAGS).encode() + _processor()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "darkroom"
    built = folder / f"{Path(source).stem}-{name}.so"
    try:
        if not built.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _build(compiler, text, built)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError):
        return None  # what cannot be built is done by PyTorch


def _processor() -> bytes:
    """A library built for one processor must not be taken on another that shares the home."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return b""
    return next((line for line in lines if line.startswith("flags")), "").encode()


def _build(compiler: str, text: bytes, built: Path) -> None:
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        fresh = Path(folder) / built.name
        command = [compiler, *FLAGS, "-x", "c", "-", "-o", str(fresh), "-lm"]
        subprocess.run(command, input=text, capture_output=True, check=True, timeout=120)
        os.replace(fresh, built)  # whole or not at all: two processes may build at once


def in_threads(work: Callable[[int, int], None], most: int) -> None:
    """Call work(i, n) for i of 0 … n − 1 side by side, n being PyTorch's threads, at most `most`."""
    n = min(torch.get_num_threads(), most)
    if n <= 1:
        work(0, 1)
        return
    with ThreadPoolExecutor(n) as pool:  # calls into a library let go of the interpreter
        list(pool.map(work, range(n), [n] * n))
