"""What all embedders have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from darkroom.conditioning.conditioning import Conditioning

__all__ = ["Embedder", "Slot"]

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
