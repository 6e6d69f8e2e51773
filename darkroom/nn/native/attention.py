"""Attention in C for processors with bf16 products and no matrix tiles, which PyTorch serves badly."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from darkroom.nn.native.build import in_threads, library

__all__ = ["attention_kernel", "native_attention"]


@cache
def attention_kernel() -> ctypes.CDLL | None:
    """The library, or None where it does not suit the processor or cannot be had."""
    capabilities = torch.cpu.get_capabilities()
    # With matrix tiles PyTorch's own kernel is the better one.
    suits = capabilities.get("avx512_bf16") and not capabilities.get("amx_bf16")
    if not suits or (found := library("attention.c")) is None:
        return None
    found.attention_scratch.restype = ctypes.c_long
    found.attention_scratch.argtypes = [ctypes.c_long] * 2
    p, n = ctypes.c_void_p, ctypes.c_long
    found.attention_head.restype = None
    found.attention_head.argtypes = [p, n, p, n, p, n, p, n, n, n, n, ctypes.c_float, p]
    return found


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

    def work(first: int, threads: int) -> None:
        scratch = ctypes.create_string_buffer(size)
        for b, h in jobs[first::threads]:
            rows = [(x[b, h].data_ptr(), x.stride(2)) for x in (q, k, v, y)]
            flat = [number for row in rows for number in row]
            kernel.attention_head(*flat, n, m, d, d**-0.5, ctypes.addressof(scratch))

    in_threads(work, len(jobs))
    return y
