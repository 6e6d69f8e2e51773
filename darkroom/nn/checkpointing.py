"""Training in less memory: blocks whose insides are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from darkroom.nn.blocks import AttentionBlock, ResBlock, TransformerBlock

__all__ = ["checkpoint_blocks", "recomputed"]

BLOCKS = (ResBlock, TransformerBlock, AttentionBlock)


def checkpoint_blocks(network: nn.Module) -> None:
    """Attach to the blocks of `network`; without gradients they run as before (Chen et al. 2016, arXiv:1604.06174)."""
    for block in network.modules():
        if isinstance(block, BLOCKS):
            block.forward = partial(recomputed, block.forward)  # type: ignore[method-assign]


def recomputed(forward: Callable[..., Any], *inputs: Any) -> Any:
    """`forward(*inputs)`, whose insides are computed again in the backward pass."""
    return checkpoint(forward, *inputs, use_reentrant=False) if torch.is_grad_enabled() else forward(*inputs)
