"""In which precision a device computes best, and networks that compute wider than their weights are stored."""

from __future__ import annotations

import ctypes
import mmap
import sys

import torch
from torch import nn

from darkroom.nn.layers import Conv2d, Linear

__all__ = ["fast_half", "page_out", "widen"]

PAGE_OUT = 21  # Linux 5.4: MADV_PAGEOUT, which Python 3.11 does not name


def fast_half(device: torch.device | str) -> torch.dtype | None:
    """The half precision in which `device` computes faster than in float32; None if there is none.

    Processors without instructions for bfloat16 products (before AVX-512 BF16, AMX or Arm's BF16) imitate them, many
    times slower than float32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type != "cpu":
        return torch.float16
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16")) else None


def widen(module: nn.Module, *, narrow_from: int | None = None) -> None:
    """Make `module` compute in float32, in place. The numbers are the same either way:

    weights of `narrow_from` values or more stay as they are stored, perhaps mapped from a file, and are widened each
    time they are used: half the memory for a few hundredths of the time of a large network.
    """
    narrow = set()
    if narrow_from is not None:
        layers = (m for m in module.modules() if isinstance(m, Linear | Conv2d | nn.Embedding))
        narrow = {m.weight for m in layers if m.weight.numel() >= narrow_from}
    for m in module.modules():
        for p in m.parameters(recurse=False):
            if p not in narrow and p.is_floating_point():
                p.data = p.data.float()
        for name, b in m.named_buffers(recurse=False):
            if b.is_floating_point():
                setattr(m, name, b.float())


def page_out(module: nn.Module) -> None:
    """Let the system take back the memory of weights that `module` keeps narrow, until they are used again.

    Those that are mapped from a file are dropped and read from it again; nothing is ever lost. Elsewhere than on Linux
    this does nothing.
    """
    if sys.platform != "linux":
        return
    advise = ctypes.CDLL(None).madvise
    for p in module.parameters():
        if p.device.type == "cpu" and p.dtype in (torch.float16, torch.bfloat16):
            first = -(-p.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
            length = (p.data_ptr() + p.numel() * p.itemsize - first) // mmap.PAGESIZE * mmap.PAGESIZE
            if length > 0:
                advise(ctypes.c_void_p(first), ctypes.c_size_t(length), PAGE_OUT)
