"""Fully sharded data parallelism (FSDP2): of every large weight each process keeps the rows that are its own.

A block's weights are gathered when it works and given up afterwards; gradients, running means and the optimizers'
state are sharded like the weights (Zhao et al. 2023, arXiv:2304.11277).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from darkroom.models.clip import ClipTextTower
from darkroom.models.controlnet import ControlNet
from darkroom.models.text_transformer import TextLayer, TextTransformer
from darkroom.models.tower import TowerLayer
from darkroom.models.unet import UNet
from darkroom.nn.blocks import AttentionBlock, ResBlock, TransformerBlock
from darkroom.training.world import World

__all__ = ["Rows", "gather_in_place", "grouped", "joined", "like", "local", "own_part", "shard", "whole"]

NETWORKS = (UNet, ControlNet, ClipTextTower, TextTransformer)  # large ones, which are only called; others stay whole
BLOCKS = (ResBlock, AttentionBlock, TransformerBlock, TowerLayer, TextLayer)  # gathered one at a time


def shard(module: nn.Module, world: World) -> None:
    """Shard the large networks in `module`, in place; all processes hold the same weights before."""
    for network in list(module.modules()):
        if not isinstance(network, NETWORKS):
            continue
        network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # which FSDP2 asks for
        for unit in [*(m for m in network.modules() if isinstance(m, BLOCKS)), network]:
            sharded = fully_shard(unit, mesh=world.mesh())  # type: ignore[call-overload]
            # Losses are shares of the step's: gradients are added up, not averaged.
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)


def local(tensor: Tensor) -> Tensor:
    """What this process holds of `tensor`, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(parameter: Tensor, held: Tensor) -> Tensor:
    """The whole of which each process has `held`, its rows of what is sharded as `parameter` is."""
    return _with(parameter, held).full_tensor() if isinstance(parameter, DTensor) else held


def gather_in_place(module: nn.Module) -> None:
    """Whole weights in the place of sharded ones, on every process; for the end, as nothing can be trained after it."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                setattr(part, name, nn.Parameter(parameter.full_tensor(), parameter.requires_grad))


@dataclass(frozen=True)
class Rows:
    """A tensor that was written in parts: (first row, rows) of each, in order."""

    parts: Sequence[tuple[int, Tensor]]

    def between(self, first: int, last: int) -> Tensor:
        """Rows `first` to below `last`."""
        found = [rows[max(0, first - at) : max(0, last - at)] for at, rows in self.parts]
        return torch.cat([rows for rows in found if len(rows)] or [self.parts[0][1][:0]])


def own_part(state: Any, *, first: bool) -> Any:
    """What one process writes of the nested `state`: its rows of sharded tensors, and the first all that is whole."""
    if isinstance(state, DTensor):
        rows = state.to_local().detach()
        start, _ = _span(state)
        return {"part": rows.clone() if rows.untyped_storage().nbytes() > rows.nbytes else rows, "first": start}
    if isinstance(state, dict):
        return {key: own_part(value, first=first) for key, value in state.items()}
    return state if first else None


def joined(states: Sequence[Any]) -> Any:
    """The nested state of which `own_part` of each process is given; sharded tensors become `Rows`."""
    head = states[0]
    if isinstance(head, dict) and head.keys() == {"part", "first"}:
        return Rows(sorted(((s["first"], s["part"]) for s in states), key=lambda part: part[0]))
    if isinstance(head, dict):
        return {key: joined([s[key] for s in states]) for key in head}
    return head


def like(target: Tensor, source: Tensor | Rows) -> Tensor:
    """`source`, a whole tensor, one in parts or one that is sharded as `target`, as this process holds `target`."""
    if not isinstance(target, DTensor):
        return source.between(0, len(target)) if isinstance(source, Rows) else source
    if isinstance(source, DTensor):
        return source
    start, end = _span(target)
    rows = source.between(start, end) if isinstance(source, Rows) else source[start:end]
    held = target.to_local()
    return _with(target, rows.to(held.device, copy=True).contiguous())


def _with(target: DTensor, rows: Tensor) -> DTensor:
    """As `target`, with other rows."""
    shape, stride = target.shape, target.stride()
    return DTensor.from_local(rows, target.device_mesh, target.placements, shape=shape, stride=stride)


def _span(tensor: DTensor) -> tuple[int, int]:
    """The rows of `tensor` that this process holds, as `torch.chunk` shares them out."""
    rows, rank = len(tensor), tensor.device_mesh.get_local_rank()
    each = -(-rows // tensor.device_mesh.size())
    return min(rows, rank * each), min(rows, (rank + 1) * each)


def grouped(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Sharded and whole ones apart: fused and foreach kernels take no mixture."""
    found: dict[bool, list[nn.Parameter]] = {}
    for p in parameters:
        found.setdefault(isinstance(p, DTensor), []).append(p)
    return list(found.values())
