"""3×3 convolutions in C by minimal filtering: a quarter of the products, in float32."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from darkroom.nn.native.build import in_threads, library

__all__ = ["convolution_kernel", "convolves", "native_convolution"]

LANES, PANEL, TILE, BLOCK = 8, 16, 4, 96  # as in the source; tiles that are worked on together
WORTH = 512  # positions from which fewer products outweigh the transforms of the kernels


_kept: list[Tensor] = []  # scratch of former calls; taking and giving back are safe between threads


@cache
def convolution_kernel() -> ctypes.CDLL | None:
    """The library, or None where it cannot be had."""
    if (found := library("convolution.c")) is None:
        return None
    p, n = ctypes.c_void_p, ctypes.c_long
    found.convolution_packed.restype = n
    found.convolution_packed.argtypes = [n, n]
    found.convolution_pack.restype = None
    found.convolution_pack.argtypes = [p, n, n, n, n, n, n, p]
    found.convolution_scratch.restype = n
    found.convolution_scratch.argtypes = [n, n, n]
    found.convolution_tiles.restype = None
    found.convolution_tiles.argtypes = [p, n, n, n, p, p, n, p, n, n, n, p]
    return found


def convolves(x: Tensor, weight: Tensor) -> bool:
    """Whether minimal filtering can take and pays for the 3×3 convolution of x (B, C, H, W) with `weight`."""
    outputs, inputs = weight.shape[:2]
    if x.device.type != "cpu" or x.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return False
    if inputs % LANES or outputs % PANEL or min(inputs, outputs) < 64:
        return False
    return x.shape[0] * x.shape[2] * x.shape[3] >= WORTH


def native_convolution(kernel: ctypes.CDLL, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The 3×3 convolution with padding 1 of x (B, C, H, W) where `convolves` says so; channels last in memory.

    Kernels are transformed anew at each call, which costs up to a third of it, so that no second, four times larger
    copy of the weights is kept.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    batch, inputs, height, width = x.shape
    outputs = weight.shape[0]
    by_taps = weight.is_contiguous()
    if not by_taps:
        weight = weight.contiguous(memory_format=torch.channels_last)
    steps = (9, 1) if by_taps else (1, inputs)  # from input to input, from tap to tap
    bias = None if bias is None else bias.float().contiguous()
    y = torch.empty(batch, outputs, height, width, memory_format=torch.channels_last)
    tiles, panels = batch * -(-height // TILE) * -(-width // TILE), outputs // PANEL

    def pack(i: int, n: int) -> None:
        first, last = panels * i // n, panels * (i + 1) // n
        kernel.convolution_pack(weight.data_ptr(), *steps, outputs, inputs, first, last, packed.data_ptr())

    def filter_tiles(i: int, n: int) -> None:
        first, last = tiles * i // n, tiles * (i + 1) // n
        offset = None if bias is None else bias.data_ptr()
        sizes = (height, width, inputs)
        with _scratch(kernel.convolution_scratch(inputs, outputs, BLOCK)) as scratch:
            result = (offset, outputs, y.data_ptr(), first, last, BLOCK, scratch.data_ptr())
            kernel.convolution_tiles(x.data_ptr(), *sizes, packed.data_ptr(), *result)

    with _scratch(kernel.convolution_packed(inputs, outputs)) as packed:
        in_threads(pack, panels)
        in_threads(filter_tiles, tiles)
    return y


@contextmanager
def _scratch(size: int) -> Iterator[Tensor]:
    """At least `size` floats, kept for the next call: memory fresh from the system is slow to write at first."""
    try:
        kept = _kept.pop()
    except IndexError:
        kept = torch.empty(0)
    if kept.numel() < size:
        kept = torch.empty(size)
    yield kept
    _kept.append(kept)
