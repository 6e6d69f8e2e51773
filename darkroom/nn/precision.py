"""In which precision a device computes best, and networks that compute wider than their weights are stored."""

from __future__ import annotations

import torch
from torch import nn

from darkroom.nn.layers import Conv2d, Linear

__all__ = ["fast_half", "widen"]


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
