"""A word made of learned vectors: textual inversion (arXiv:2208.01618)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Embedding"]


@dataclass(frozen=True, eq=False)
class Embedding:
    """What stands in a prompt in place of tokens: equally many vectors for each text tower, (n, width) each."""

    name: str
    vectors: tuple[Tensor, ...]  # by tower

    def __len__(self) -> int:
        """How many tokens it stands for."""
        return len(self.vectors[0])
