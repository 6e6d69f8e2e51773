"""Networks that use less memory and time without gradients: the same functions, attached to blocks from outside.

Maps are overwritten where nobody else holds them. On the CPU large maps go by tiles of rows and tokens by blocks, and
enlarging takes four products a pixel instead of nine. With gradients, and in training, blocks run as they are written.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.blocks import FeedForward, ResBlock
from darkroom.nn.norm_conv import add_in_place, norm_conv
from darkroom.nn.resample import Upsample
from darkroom.nn.summed_kernels import SummedKernels

__all__ = ["make_lean"]

BLOCK = 2048  # tokens of a feed-forward layer that the CPU takes at a time


def make_lean(network: nn.Module) -> None:
    """Attach to all residual, feed-forward and upsampling blocks of `network`, and to its `out` (norm and convolution).

    A copy of the network is as lean and independent of it.
    """
    for module in network.modules():
        if isinstance(module, ResBlock):
            module.forward = partial(_residual, module)
        elif isinstance(module, FeedForward):
            module.forward = partial(_feed_forward, module)
        elif isinstance(module, Upsample):
            module.forward = partial(_upsample, module, SummedKernels(module.conv))
        elif isinstance(getattr(module, "norm_out", None), nn.GroupNorm):
            module.out = partial(_out, module)  # type: ignore[assignment]


def _as_written(module: nn.Module) -> bool:
    return torch.is_grad_enabled() or module.training or torch.compiler.is_compiling()


def _residual(block: ResBlock, x: Tensor, embedding: Tensor | None = None) -> Tensor:
    if _as_written(block) or block.resample is not None or block.scale_shift:
        return ResBlock.forward(block, x, embedding)
    y = norm_conv(block.norm1, block.conv1, x)
    if block.embedding is not None and embedding is not None:
        y += block.embedding(F.silu(embedding))[..., None, None]
    y = norm_conv(block.norm2, block.conv2, y, in_place=True)
    return add_in_place(y, block.skip, x)


def _feed_forward(layer: FeedForward, x: Tensor) -> Tensor:
    """By blocks of tokens whose wide middle stays in the cache, in memory that the allocator has at hand."""
    if _as_written(layer) or x.device.type != "cpu":
        return FeedForward.forward(layer, x)
    # The batch stays the first axis: adapters may differ from row to row.
    blocks = [FeedForward.forward(layer, part) for part in x.split(max(1, BLOCK // len(x)), dim=1)]
    return torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]


def _upsample(layer: Upsample, kernels: SummedKernels, x: Tensor, embedding: Tensor | None = None) -> Tensor:
    hooked = layer.conv._forward_hooks or layer.conv._forward_pre_hooks  # they expect the convolution as it is
    if _as_written(layer) or x.device.type != "cpu" or hooked or layer.conv.weight.is_inference():
        return Upsample.forward(layer, x)
    return kernels.enlarged(x)


def _out(network: nn.Module, x: Tensor) -> Tensor:
    if _as_written(network):
        return type(network).out(network, x)  # type: ignore[attr-defined]
    return norm_conv(network.norm_out, network.conv_out, x)  # type: ignore[arg-type]
