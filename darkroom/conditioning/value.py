"""What a denoiser is told: the three slots through which every condition enters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Conditioning"]


@dataclass(frozen=True)
class Conditioning:
    """Optional tensors with one batch axis: concatenated, repeated and sliced alike, so that guidance and batching
    need no special cases."""

    tokens: Tensor | None = None  # (B, L, D) read by cross-attention
    channels: Tensor | None = None  # (B, C, h, w) concatenated to the latent
    vector: Tensor | None = None  # (B, D) or class indices (B,), added to the timestep embedding

    @property
    def batch(self) -> int:
        """B; 0 for a conditioning without any slot, which fits every batch."""
        return next((len(t) for t in (self.tokens, self.channels, self.vector) if t is not None), 0)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return Conditioning(*(None if t is None else change(t) for t in (self.tokens, self.channels, self.vector)))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Conditioning:
        """Floating tensors change their type, indices only their device."""
        return self._map(lambda t: t.to(device, dtype if t.is_floating_point() else None))

    def repeat(self, n: int) -> Conditioning:
        """Every row n times, rows of one picture together."""
        return self._map(lambda t: t.repeat_interleave(n, dim=0))

    def __getitem__(self, rows: slice | Tensor) -> Conditioning:
        return self._map(lambda t: t[rows])

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """One batch after another. All parts have the same slots; token sequences may differ in length only by whole
        multiples, in which case the shorter are repeated (prompts of several chunks)."""

        def join(tensors: list[Tensor | None]) -> Tensor | None:
            present = [t for t in tensors if t is not None]
            if len(present) != len(tensors):
                if present:
                    raise ValueError("conditionings with different slots cannot be joined")
                return None
            if present[0].dim() == 3:
                length = max(t.shape[1] for t in present)
                present = [t if t.shape[1] == length else t.repeat(1, length // t.shape[1], 1) for t in present]
            return torch.cat(present)

        return Conditioning(
            join([p.tokens for p in parts]), join([p.channels for p in parts]), join([p.vector for p in parts])
        )
