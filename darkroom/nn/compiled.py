"""Blocks of a network translated into kernels for the device they are on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch._dynamo import config as tracing
from torch.fx.experimental import _config as symbols

from darkroom.errors import InputError
from darkroom.nn.blocks import AttentionBlock, ResBlock, TransformerBlock
from darkroom.nn.layers import Conv2d

__all__ = ["compile_blocks"]

BLOCKS = (ResBlock, TransformerBlock, AttentionBlock)
VARIANTS = 128  # of one kind of block at most: SDXL's residual blocks have 11 pairs of widths, each for three batches


def compile_blocks(network: nn.Module, device: torch.device, *, backend: str = "inductor") -> None:
    """Compile the blocks of `network`, in place, when they first run; `backend` is one of PyTorch's.

    Blocks of the same widths share their code, so SDXL's 70 transformer blocks are compiled as two. Sizes, batches and
    lengths of prompts are variables of the code: others need no new one, except for batches of one, and of 16 rows or
    more. A block in which something hooks into a layer, as a live LoRA does, runs as it is written. `InputError` where
    a compiler is missing.
    """
    _require_compiler(device, backend)
    # Both hold for the process. Equal sides of the first picture must not be taken for a rule, and beyond the limit
    # PyTorch would go on uncompiled.
    symbols.use_duck_shape = False
    tracing.recompile_limit = max(tracing.recompile_limit, VARIANTS)
    for block in network.modules():
        if isinstance(block, BLOCKS):
            block.forward = _unless_hooked(block, backend)
            for layer in block.modules():
                if isinstance(layer, Conv2d):
                    layer.minimal_filtering = False  # compilers do not see into the library that it is done by


def _unless_hooked(block: nn.Module, backend: str) -> Callable[..., Any]:
    plain = block.forward
    as_written = MethodType(type(block).forward, block)
    compiled = torch.compile(as_written, dynamic=True, backend=backend)
    layers = [m for m in block.modules() if m is not block]

    def forward(*inputs: Any) -> Any:
        # What is compiled takes no notice of hooks that come later, those of a LoRA among them.
        hooked = any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
        return plain(*inputs) if hooked else compiled(*inputs)

    return forward


def _require_compiler(device: torch.device, backend: str) -> None:
    if backend != "inductor":
        return
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise InputError("compiling for the CPU needs a C++ compiler, and there is neither g++ nor clang++ here")
    if device.type == "cuda" and find_spec("triton") is None:
        raise InputError("compiling for CUDA needs the package triton, which is not installed")
