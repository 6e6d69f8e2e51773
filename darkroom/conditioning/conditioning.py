"""What a denoiser is told: the three slots through which every condition enters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Conditioning"]

SLOTS = ("tokens", "channels", "vector")


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

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> Conditioning:
        """The rows asked for; one row is a batch of one."""
        if isinstance(rows, int):
            rows = [rows]
        return self._map(lambda t: t[rows])

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """One batch after another.

        Token sequences that differ in length (prompts of several chunks) are brought to their least common multiple by
        repeating each of them as a whole. Attention does not notice: every key and value is there equally often, so
        the softmax gives the copies of one token together what the token alone would get.

        All parts have the same slots, each of the same shape but for rows and length; else `ValueError`.
        """
        return Conditioning(*(_joined(slot, [getattr(p, slot) for p in parts]) for slot in SLOTS))


def _joined(slot: str, tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [t for t in tensors if t is not None]
    if not present:
        return None
    if len(present) < len(tensors):
        without = [i for i, t in enumerate(tensors) if t is None]
        raise ValueError(f"conditionings with different slots cannot be joined: parts {without} have no {slot}")
    shapes = {t.shape[2:] if slot == "tokens" else t.shape[1:] for t in present}
    if len(shapes) > 1:
        raise ValueError(f"conditionings cannot be joined: {slot} have the shapes {[list(t.shape) for t in present]}")
    if slot == "tokens":
        length = math.lcm(*(t.shape[1] for t in present))
        present = [t.repeat(1, length // t.shape[1], 1) if t.shape[1] < length else t for t in present]
    return torch.cat(present)
