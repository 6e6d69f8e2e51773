"""A caption as pieces of text, each with a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from darkroom.conditioning.embedding import Embedding

__all__ = ["Piece", "WeightedText", "token_weights"]


@dataclass(frozen=True)
class Piece:
    """Text of one weight; `breaks`: it begins a new chunk; `embedding`: what it stands for in place of its letters."""

    text: str
    weight: float = 1.0
    breaks: bool = False
    embedding: Embedding | None = None


@dataclass(frozen=True)
class WeightedText:
    """What a prompt says at one step."""

    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return "".join((" " if p.breaks else "") + p.text for p in self.pieces)

    @property
    def said(self) -> str:
        """The text without the names of embeddings."""
        pieces = (p if p.embedding is None else replace(p, text=" ") for p in self.pieces)
        return WeightedText(tuple(pieces)).text

    @property
    def embeddings(self) -> tuple[Embedding, ...]:
        """In their order, as often as they stand there."""
        return tuple(p.embedding for p in self.pieces if p.embedding is not None)

    @property
    def plain(self) -> bool:
        """Whether it is nothing but text."""
        return all(p.weight == 1 and not p.breaks and p.embedding is None for p in self.pieces)


def token_weights(text: WeightedText, split: Callable[[str], Sequence[object]], limit: int) -> list[float]:
    """A weight for each of the first `limit` tokens that `split` makes of the whole text.

    A word that runs over pieces of unlike weights (`cat(s:1.2)`) is still one token, of the weight it begins with.
    """
    weights: list[float] = []
    for i, piece in enumerate(text.pieces):
        if not piece.text.strip():
            continue
        count = len(split(WeightedText(text.pieces[: i + 1]).text))
        weights = [*weights, *[piece.weight] * (count - len(weights))][:count]
        if count >= limit:
            break
    return weights[:limit]
