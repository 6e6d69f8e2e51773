"""What all embedders have in common, and the list of them that conditions one system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from darkroom.conditioning.value import Conditioning

__all__ = ["Conditioner", "Embedder", "Slot"]

Slot = Literal["tokens", "channels", "vector"]


class Embedder(nn.Module):
    """Reads the input `key` and fills `slot`.

    `prepare` does what needs no network (tokenise, rasterise) and can be cached; `forward` does the rest. An absent
    input is `None`; what it means is the embedder's matter.
    """

    slot: ClassVar[Slot]
    key: str
    drop_rate: float = 0.0  # share of training samples whose input is made absent

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Inputs of B pictures (`None` = absent) to one tensor (B, …)."""
        raise NotImplementedError

    def forward(self, prepared: Tensor) -> Tensor:
        """The slot's tensor (B, …)."""
        raise NotImplementedError


class Conditioner(nn.Module):
    """Embedders side by side: tokens are joined along their length, channels and vectors along theirs."""

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        super().__init__()
        self.embedders = nn.ModuleDict({e.key: e for e in embedders})

    def prepare(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """One mapping per picture, by embedder key, to prepared tensors by the same keys."""
        return {key: e.prepare([i.get(key) for i in inputs]) for key, e in self._items()}

    def drop(self, prepared: Mapping[str, Tensor], generator: Generator) -> dict[str, Tensor]:
        """`prepared` with each input made absent at its embedder's rate, independently."""
        result = {}
        for key, e in self._items():
            value = prepared[key]
            absent = torch.rand(len(value), generator=generator) < e.drop_rate
            if absent.any():
                nothing = e.prepare([None]).to(value)
                mask = absent.view(-1, *[1] * (value.dim() - 1))
                value = torch.where(mask.to(value.device), nothing, value)
            result[key] = value
        return result

    def forward(self, prepared: Mapping[str, Tensor]) -> Conditioning:
        slots: dict[str, list[Tensor]] = {"tokens": [], "channels": [], "vector": []}
        for key, e in self._items():
            slots[e.slot].append(e(prepared[key]))
        joined = {name: torch.cat(parts, dim=1) if parts else None for name, parts in slots.items()}
        return Conditioning(joined["tokens"], joined["channels"], joined["vector"])

    def _items(self) -> list[tuple[str, Embedder]]:
        return list(self.embedders.items())  # type: ignore[arg-type]  # all are embedders
