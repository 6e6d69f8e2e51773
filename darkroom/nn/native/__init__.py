"""Attention in C for processors that PyTorch serves badly, built with the compiler at hand when it is first wanted."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["attention_kernel", "native_attention"]

SWITCH = "DARKROOM_NATIVE"  # set to 0 to do without
FLAGS = ("-O3", "-march=native", "-std=c11", "-fPIC", "-shared")


@cache
def attention_kernel() -> ctypes.CDLL | None:
    """The library, or None: another processor, no compiler, or switched off. Kept in the user's cache once built."""
    capabilities = torch.cpu.get_capabilities()
    compiler = shutil.which(os.environ.get("CC", "cc"))
    # With matrix tiles PyTorch's own kernel is the better one.
    suits = capabilities.get("avx512_bf16") and not capabilities.get("amx_bf16")
    if os.environ.get(SWITCH) == "0" or not suits or compiler is None:
        return None
    source = (files("darkroom.nn.native") / "attention.c").read_bytes()
    name = hashlib.sha256(source + repr(FLAGS).encode() + _processor()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "darkroom"
    library = folder / f"attention-{name}.so"
    try:
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _build(compiler, source, library)
        found = ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError):
        return None  # what cannot be built is done by PyTorch
    found.attention_scratch.restype = ctypes.c_long
    found.attention_scratch.argtypes = [ctypes.c_long] * 2
    p, n = ctypes.c_void_p, ctypes.c_long
    found.attention_head.restype = None
    found.attention_head.argtypes = [p, n, p, n, p, n, p, n, n, n, n, ctypes.c_float, p]
    return found


def _processor() -> bytes:
    """A library built for one processor must not be taken on another that shares the home."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return b""
    return next((line for line in lines if line.startswith("flags")), "").encode()


def _build(compiler: str, source: bytes, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        fresh = Path(folder) / library.name
        command = [compiler, *FLAGS, "-x", "c", "-", "-o", str(fresh), "-lm"]
        subprocess.run(command, input=source, capture_output=True, check=True, timeout=120)
        os.replace(fresh, library)  # whole or not at all: two processes may build at once


def native_attention(kernel: ctypes.CDLL, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) v of bf16 (B, heads, N, d) on the CPU, without gradients, as (B, heads, N, d).

    Rows may lie any distance apart, their numbers side by side. Heads are spread over PyTorch's threads.
    """
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    batch, heads, n, d = q.shape
    m = k.shape[2]
    y = torch.empty(batch, n, heads, d, dtype=q.dtype).transpose(1, 2)  # as the caller joins the heads again
    size = kernel.attention_scratch(m, d)
    jobs = [(b, h) for b in range(batch) for h in range(heads)]
    threads = min(torch.get_num_threads(), len(jobs))

    def work(first: int) -> None:
        scratch = ctypes.create_string_buffer(size)
        for b, h in jobs[first::threads]:
            rows = [(x[b, h].data_ptr(), x.stride(2)) for x in (q, k, v, y)]
            flat = [number for row in rows for number in row]
            kernel.attention_head(*flat, n, m, d, d**-0.5, ctypes.addressof(scratch))

    if threads == 1:
        work(0)
    else:
        with ThreadPoolExecutor(threads) as pool:  # calls into the library let go of the interpreter
            list(pool.map(work, range(threads)))
    return y
