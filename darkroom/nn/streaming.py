"""Networks larger than a device's memory: the weights of a block are there only while it works."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.errors import InputError

__all__ = ["Streaming"]

ALIGNED = 256  # bytes; what kernels expect of the start of a tensor


@dataclass(frozen=True)
class _Loaded:
    """A block whose weights were copied, or are being copied, into one of the two buffers."""

    block: nn.Module
    buffer: int
    here: list[Tensor]  # its parameters on the device, views of the buffer
    ready: torch.cuda.Event | None  # the end of the copy; None where copying is done at once


class Streaming:
    """Keeps the weights of blocks in the host's memory and brings them to `device` for their work.

    `blocks` are all modules in `networks` that are of one of `kinds`; none may lie in another. What else `networks`
    hold must be on `device` already. A block's weights come before its forward pass and stay until the next block
    begins or the network ends, with an error too, so that hooks of adapters find them. In the host's memory they are
    ordinary parameters, which may be read and changed between two runs of a network.

    The copy of the next block's weights is begun before the present one computes; which one is next is learned from
    the run before. On CUDA devices it goes on beside the work, from pinned memory and on a stream of its own. There are
    two buffers, as large as the largest block: fresh memory for every block would not do, since the processor runs
    ahead of the device, and with it the memory that is handed out.

    No gradients flow through streamed blocks: they would need the weights again. `InputError` where one is asked for.
    """

    def __init__(self, networks: Sequence[nn.Module], kinds: tuple[type[nn.Module], ...], device: torch.device) -> None:
        self.blocks = [m for network in networks for m in network.modules() if isinstance(m, kinds)]
        largest = max((_spread(b.parameters())[1] for b in self.blocks), default=0)
        self.buffers = tuple(torch.empty(largest, dtype=torch.uint8, device=device) for _ in range(2))
        self._at_home: list[tuple[nn.Parameter, Tensor]] = []  # parameters of the present block, their host's tensors
        self._present: _Loaded | None = None
        self._next: _Loaded | None = None
        self._follows: dict[nn.Module, nn.Module] = {}
        self._copies: torch.cuda.Stream | None = None
        self._left: list[torch.cuda.Event | None] = [None, None]  # when the last work with each buffer ends
        if device.type == "cuda":
            self._copies = torch.cuda.Stream(device)
            self._copies.wait_stream(torch.cuda.current_stream(device))  # former users of the buffers' memory
            _pin(p for b in self.blocks for p in b.parameters())
        for block in self.blocks:
            block.register_forward_pre_hook(self._begin)
        for network in networks:
            network.register_forward_hook(self._end, always_call=True)

    def _begin(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            raise InputError("no gradient goes through a model whose weights are streamed: it needs memory for all")
        before = self._present
        if before is not None and before.block is block:
            return
        self._leave()
        loaded = self._next
        if loaded is None or loaded.block is not block:  # the first run, or a wrong guess, which makes way
            loaded = self._copied(block, 0 if before is None else 1 - before.buffer)
        if before is not None:
            self._follows[before.block] = block
        if loaded.ready is not None:
            torch.cuda.current_stream(loaded.here[0].device).wait_event(loaded.ready)
        self._at_home = [(p, p.data) for p in block.parameters()]
        for p, here in zip(block.parameters(), loaded.here):
            p.data = here
        self._present = loaded
        following = self._follows.get(block)
        self._next = None if following is None else self._copied(following, 1 - loaded.buffer)

    def _end(self, network: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        self._leave()
        self._next = None
        if self._copies is not None:
            self._copies.synchronize()  # from here on the host's tensors may change

    def _leave(self) -> None:
        """Give the parameters of the present block their host's tensors back."""
        for p, home in self._at_home:
            p.data = home
        self._at_home = []
        if self._copies is not None and self._present is not None:
            self._left[self._present.buffer] = _mark(torch.cuda.current_stream(self._copies.device))
        self._present = None

    def _copied(self, block: nn.Module, buffer: int) -> _Loaded:
        """Begin to copy the weights of `block` into the buffer of that number."""
        starts, _ = _spread(block.parameters())
        left = self._left[buffer]
        # Inference mode would make tensors that parameters cannot hold.
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.stream(self._copies):
            if self._copies is not None and left is not None:
                self._copies.wait_event(left)
            here = []
            for start, p in zip(starts, block.parameters()):
                flat = self.buffers[buffer][start : start + p.numel() * p.itemsize].view(p.dtype)
                here.append(flat.as_strided(p.shape, p.stride()).copy_(p.data, non_blocking=True))
            return _Loaded(block, buffer, here, None if self._copies is None else _mark(self._copies))


def _mark(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """The end of what was given to `stream` so far."""
    event = torch.cuda.Event()
    event.record(stream)
    return event


def _pin(parameters: Iterable[nn.Parameter]) -> None:
    """Move them to pinned memory, as many as the system allows; from elsewhere copies take longer."""
    for p in parameters:
        try:
            p.data = p.data.pin_memory()
        except RuntimeError:
            return


def _spread(parameters: Iterable[nn.Parameter]) -> tuple[list[int], int]:
    """(Where each begins when they lie one after the other, in bytes; how many bytes they take)."""
    starts, end = [], 0
    for p in parameters:
        starts.append(end)
        end += -(-p.numel() * p.itemsize // ALIGNED) * ALIGNED
    return starts, end
