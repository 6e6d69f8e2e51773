"""Prompts of other tools as pieces of text with weights, and these in the words of this project's grammar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from darkroom.prompts.grammar import MAX_WEIGHT
from darkroom.prompts.tree import Node, Sentence, Text, Weighted

__all__ = ["MAX_DEPTH", "Piece", "joined", "printed"]

MAX_DEPTH = 64  # brackets within brackets that are followed; what is deeper is text

Piece = tuple[str, float]  # text, and its weight against 1


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Neighbors of one weight become one; those without text vanish."""
    result: list[Piece] = []
    for text, weight in pieces:
        if result and result[-1][1] == weight:
            result[-1] = (result[-1][0] + text, weight)
        elif text:
            result.append((text, weight))
    return result


def printed(pieces: Sequence[Piece], lost: list[str]) -> str:
    """The prompt that means these pieces: signs of the grammar in them are escaped, weights stand in brackets.

    Weights that the grammar does not know, not finite or beyond its bounds, become 1; `lost` is told of them.
    """
    nodes: list[Node] = []
    for text, weight in joined(pieces):
        if not abs(weight) <= MAX_WEIGHT:  # nor is a NaN
            lost.append(f"the weight {weight:g} of {text[:80]!r}")
            weight = 1.0
        weight = round(weight, 6)
        nodes.append(Text(text) if weight == 1 else Weighted((Text(text),), weight))
    return str(Sentence(tuple(nodes)))
