"""The weighted sum of LoRAs as one LoRA: factors stand side by side, and may be cut to fewer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from darkroom.checkpoints.lora import Lora
from darkroom.checkpoints.lora_names import adaptable_layers
from darkroom.errors import InputError
from darkroom.nn.lora import Adapter, Full, Hadamard, Kronecker, LowRank, WithBias
from darkroom.systems.system import System

__all__ = ["LoraSum", "sum_loras"]


@dataclass(frozen=True)
class LoraSum:
    """`kept`: the share of the change's squared norm, over all layers, that a cut to fewer factors left."""

    adapters: Mapping[str, LowRank]
    kept: float


@torch.no_grad()
def sum_loras(loras: Sequence[tuple[Lora, float]], system: System, rank: int | None = None) -> LoraSum:
    """The LoRA whose change of each layer is the weighted sum of the changes by `loras`, each with its weight.

    Ranks add up; with `rank` each layer's sum is the nearest one of at most that rank. Layers that only some of them
    change are kept. Raises `InputError` naming file and layer for changes that are no products of two factors.
    """
    factors: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for lora, weight in loras:
        for module, adapter in lora.adapters.items():
            kind = _kind(adapter)
            if kind is not None or not isinstance(adapter, LowRank):
                raise InputError(f"{lora.path}: the change of {module} is {kind}; only plain LoRAs are merged")
            factors.setdefault(module, []).append(_scaled(adapter, weight))
    layers = adaptable_layers(system)
    adapters: dict[str, LowRank] = {}
    whole = kept = 0.0
    for module, found in factors.items():
        up, down = torch.cat([up for up, _ in found], 1), torch.cat([down for _, down in found])
        if rank is not None:
            up, down, strengths = _cut(up, down, rank)
            whole += float(strengths.square().sum())
            kept += float(strengths[: up.shape[1]].square().sum())
        shape = layers[module].weight.shape
        down, up = down.reshape(-1, *shape[1:]), up.reshape(*up.shape, *[1] * (len(shape) - 2))
        adapters[module] = LowRank(down, up)
    return LoraSum(adapters, kept / whole if whole else 1.0)


def _kind(adapter: Adapter) -> str | None:
    """What a change is called that is not a plain LoRA; None for one."""
    kinds = {Hadamard: "a LoHa", Kronecker: "a LoKr", Full: "a full difference", WithBias: "one of a bias, too"}
    if adapter.magnitude is not None:
        return "a DoRA"
    if isinstance(adapter, LowRank):
        return None if adapter.mid is None else "a LoRA with a kernel between its factors"
    return kinds.get(type(adapter), f"no LoRA but of the kind {type(adapter).__name__}")


def _scaled(adapter: LowRank, weight: float) -> tuple[Tensor, Tensor]:
    """Its factors (out, r) and (r, in) in float32, whose product is the change times `weight`."""
    scale = adapter.scale * weight
    size = math.sqrt(abs(scale))
    return adapter.up.flatten(1).float() * math.copysign(size, scale), adapter.down.flatten(1).float() * size


def _cut(up: Tensor, down: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The factors (out, k) and (k, in), k ≤ `rank`, whose product is nearest to up · down, and all singular values of
    that. The product itself, which may be large, is never made."""
    q_up, r_up = torch.linalg.qr(up)  # (out, m) (m, r)
    q_down, r_down = torch.linalg.qr(down.T)  # (in, n) (n, r)
    left, strengths, right = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)  # (m, k) (k) (k, n)
    rounding = torch.finfo(strengths.dtype).eps * max(len(up), down.shape[1]) * strengths[0]
    k = max(1, min(rank, int((strengths > rounding).sum())))
    root = strengths[:k].sqrt()
    return q_up @ (left[:, :k] * root), (root[:, None] * right[:k]) @ q_down.T, strengths
