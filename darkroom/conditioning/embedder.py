"""What all embedders have in common, and the list of them that conditions one system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from darkroom.conditioning.value import Conditioning

__all__ = ["Conditioner", "Embedder", "Slot"]

Slot = Literal["tokens", "channels", "vector"]


class Embedder(nn.Module):
    """Reads the input `key` and fills `slot`.

    `prepare` does what can be cached (tokenise, rasterise, run a frozen network once); `forward` does the rest. An
    absent input is `None`; what it means is the embedder's matter.
    """

    slot: ClassVar[Slot]
    key: str
    drop_rate: float = 0.0  # share of training samples whose input is made absent
    guided: ClassVar[bool] = False  # whether the unconditional branch of guidance goes without this input

    def prepare(self, values: Sequence[Any]) -> Tensor:
        """Inputs of B pictures (`None` = absent) to one tensor (B, …)."""
        raise NotImplementedError

    def forward(self, prepared: Tensor) -> Tensor | Conditioning:
        """The slot's tensor (B, …), or several slots at once."""
        raise NotImplementedError

    def unconditional(self, value: Any) -> Any:
        """What the unconditional branch reads where the conditional branch reads `value`."""
        return None if self.guided else value

    def look_in(self, folder: Path) -> None:
        """Look for the files that are needed besides weights in the checkpoint's `folder` first."""


class Conditioner(nn.Module):
    """Embedders side by side: tokens are joined along their length, channels and vectors along theirs."""

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        super().__init__()
        self.embedders = nn.ModuleDict({e.key: e for e in embedders})

    def prepare(self, inputs: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """One mapping per picture, by embedder key, to prepared tensors by the same keys."""
        return {key: e.prepare([i.get(key) for i in inputs]) for key, e in self._items()}

    def unconditional(self, inputs: Mapping[str, Any], negative_prompt: str = "") -> dict[str, Any]:
        """The inputs of the unconditional branch beside `inputs`: each embedder says whether it goes without.

        A negative prompt takes the caption's place; an empty one is an absent caption.
        """
        result = {key: e.unconditional(inputs.get(key)) for key, e in self._items()}
        if "caption" in result and negative_prompt:
            result["caption"] = negative_prompt
        return result

    def look_in(self, folder: Path) -> None:
        """Tell all embedders where the checkpoint lies: vocabularies may lie beside it."""
        for _, e in self._items():
            e.look_in(folder)

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
            part = e(prepared[key])
            part = part if isinstance(part, Conditioning) else Conditioning(**{e.slot: part})
            for name, found in slots.items():
                if (tensor := getattr(part, name)) is not None:
                    found.append(tensor)
        joined = {name: _join(parts) for name, parts in slots.items()}
        return Conditioning(joined["tokens"], joined["channels"], joined["vector"])

    def _items(self) -> list[tuple[str, Embedder]]:
        return list(self.embedders.items())  # type: ignore[arg-type]  # all are embedders


def _join(parts: list[Tensor]) -> Tensor | None:
    if len(parts) < 2:
        return parts[0] if parts else None  # one alone may be class indices (B,)
    return torch.cat(parts, dim=1)
