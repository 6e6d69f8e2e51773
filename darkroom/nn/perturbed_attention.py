"""Self-attention made the identity for some rows of a call (perturbed-attention guidance, Ahn et al. 2024, 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.nn.attention import Attention
from darkroom.nn.blocks import AttentionBlock

__all__ = ["without_self_attention"]


@contextmanager
def without_self_attention(middle: nn.Module, rows: Sequence[int]) -> Iterator[None]:
    """While this is open, every position of these rows of a batch attends to itself alone in `middle`."""
    with ExitStack() as hooks:
        for name, module in middle.named_modules() if rows else ():
            if isinstance(module, AttentionBlock) or (isinstance(module, Attention) and name.endswith("attn1")):
                hooks.enter_context(module.register_forward_hook(partial(_identity, list(rows))))
        yield


def _identity(rows: list[int], module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    x: Any = args[0][rows]
    if isinstance(module, AttentionBlock):
        y = module.norm(x).permute(0, 2, 3, 1)
        alone = x + module.to_out(module.to_v(y)).permute(0, 3, 1, 2)
    else:
        alone = module.to_out(module.to_v(x))  # type: ignore[operator]
    return torch.index_copy(output, 0, torch.tensor(rows, device=output.device), alone)
