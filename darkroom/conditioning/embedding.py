"""A word made of learned vectors: textual inversion (arXiv:2208.01618)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Embedding", "same_vectors"]


@dataclass(frozen=True, eq=False)
class Embedding:
    """What stands in a prompt in place of tokens: equally many vectors for each text tower, (n, width) each. `file`:
    where it was read, unless it is part of a LoRA."""

    name: str
    vectors: tuple[Tensor, ...]  # by tower
    file: Path | None = None

    def __len__(self) -> int:
        """How many tokens it stands for."""
        return len(self.vectors[0])


def same_vectors(token: int, vocabulary: int, vectors: int) -> int:
    """The number of a token when all words that were learned are made of the same `vectors` vectors."""
    return token if token < vocabulary else vocabulary + (token - vocabulary) % vectors
