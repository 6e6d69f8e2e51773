"""What passes through a network take, found on PyTorch's device "meta", where tensors have shapes and no numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from darkroom.nn.blocks import AttentionBlock, ResBlock, TransformerBlock

__all__ = ["Activations", "counted", "in_precision", "measured_activations"]

BLOCKS = (ResBlock, TransformerBlock, AttentionBlock)  # that gradient checkpointing computes again


@dataclass(frozen=True)
class Activations:
    """What a forward and a backward pass take: bytes kept between them, FLOPs of both, of the forward pass alone."""

    outside: float  # of blocks
    inputs: float  # of blocks
    inside: float  # of all blocks
    largest: float  # of one
    flops: float
    forward_flops: float

    def kept(self, *, checkpointing: bool) -> float:
        return self.outside + (self.inputs + self.largest if checkpointing else self.inside)


def measured_activations(network: nn.Module, run: Callable[[], Tensor], kind: torch.dtype) -> Activations:
    """What `run`, a forward pass of `network` on "meta" in the precision `kind`, keeps for the backward pass."""
    held: dict[int, Tensor] = {}  # kept alive, so that no two have one address
    bytes_in: dict[nn.Module | None, float] = {}
    inside: list[nn.Module] = []
    inputs = 0.0
    weights = {p.untyped_storage()._cdata for p in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in held and storage._cdata not in weights:
            held[storage._cdata] = tensor
            block = inside[-1] if inside else None
            bytes_in[block] = bytes_in.get(block, 0.0) + storage.nbytes()
        return tensor

    def enter(block: nn.Module, given: tuple[Any, ...]) -> None:
        nonlocal inputs
        inside.append(block)
        inputs += sum(t.nbytes for t in given if isinstance(t, Tensor))

    def leave(block: nn.Module, given: Any, result: Any) -> None:
        inside.pop()

    blocks = [m for m in network.modules() if isinstance(m, BLOCKS)]
    hooks = [h for b in blocks for h in (b.register_forward_pre_hook(enter), b.register_forward_hook(leave))]
    try:
        with in_precision(network, kind), counted() as work:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                result = run()
            forward = work.flops(1.0)
            result.backward(torch.empty_like(result))
            total = work.flops(3.5)  # of attention the backward pass has five products, the forward pass two (Dao 2023)
    finally:
        for hook in hooks:
            hook.remove()
        for p in network.parameters():
            p.grad = None
    own = [bytes_in.get(b, 0.0) for b in blocks]
    return Activations(bytes_in.get(None, 0.0), inputs, sum(own), max(own, default=0.0), total, forward)


@contextmanager
def in_precision(network: nn.Module, kind: torch.dtype) -> Iterator[None]:
    """Inside the block the weights, which are on "meta", are of the type that autocast would compute in."""
    network.to(kind)
    try:
        yield
    finally:
        network.to(torch.float32)


@contextmanager
def counted() -> Iterator[_Work]:
    """Counts the floating-point operations inside the block; a product and a sum are two."""
    with FlopCounterMode(display=False) as counter, _FusedAttention() as attention:
        yield _Work(counter, attention)


@dataclass(frozen=True)
class _Work:
    counter: FlopCounterMode
    attention: _FusedAttention

    def flops(self, passes: float) -> float:
        """So far, attention's of the forward pass counted `passes` times."""
        return float(self.counter.get_total_flops()) + passes * self.attention.flops


class _FusedAttention(TorchFunctionMode):
    """Attention as its fused kernels do it, which keep no scores; on "meta" PyTorch would take the plain products."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0.0  # of forward passes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = args
        self.flops += 4.0 * q.numel() * k.shape[-2]
        return _Shapes.apply(q, k, v)


class _Shapes(torch.autograd.Function):
    """Keeps for the backward pass what the fused kernels keep: their inputs, their output, a number for each row."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        result = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, result, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(torch.empty_like(t) for t in ctx.saved_tensors[:3])
