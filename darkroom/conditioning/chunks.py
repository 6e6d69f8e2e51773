"""A weighted text as chunks of as many tokens as CLIP reads at once."""

from __future__ import annotations

from dataclasses import dataclass, field

from darkroom.conditioning.weighted_text import WeightedText
from darkroom.errors import InputError
from darkroom.models.clip_tokenizer import ClipTokenizer

__all__ = ["Chunk", "chunked"]

BACKTRACK = 20  # a chunk ends behind a comma if one stands among its last tokens (A1111's comma padding)


@dataclass
class Chunk:
    """Tokens without start and end, and a weight for each."""

    tokens: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def cut(self, keep: int) -> Chunk:
        """Keep the first `keep` tokens; the others are the next chunk."""
        rest = Chunk(self.tokens[keep:], self.weights[keep:])
        del self.tokens[keep:], self.weights[keep:]
        return rest


def chunked(tokenizer: ClipTokenizer, text: WeightedText, vocabulary: int) -> list[Chunk]:
    """The tokens of `text` in chunks of at most 75: at least one chunk, cut where A1111 cuts.

    The vectors of embeddings are numbered on from `vocabulary`, in their order; those of one embedding stay together.
    """
    most = tokenizer.length - 2
    (comma,) = tokenizer.tokens(",")
    chunks = [Chunk()]
    last_comma: int | None = None
    learned = vocabulary
    for piece in text.pieces:
        if piece.breaks:
            chunks.append(Chunk())
            last_comma = None
        if piece.embedding is not None:
            n = len(piece.embedding)
            if n > most:
                raise InputError(f"the embedding {piece.embedding.name!r} has {n} vectors, accepted are at most {most}")
            if len(chunks[-1].tokens) + n > most:
                chunks.append(Chunk())
                last_comma = None
            chunks[-1].tokens.extend(range(learned, learned + n))
            chunks[-1].weights.extend([piece.weight] * n)
            learned += n
            continue
        for token in tokenizer.tokens(piece.text):
            if len(chunks[-1].tokens) == most:
                keep = most
                if last_comma is not None and most - last_comma <= BACKTRACK and token != comma:
                    keep = last_comma + 1
                chunks.append(chunks[-1].cut(keep))
                last_comma = None
            if token == comma:
                last_comma = len(chunks[-1].tokens)
            chunks[-1].tokens.append(token)
            chunks[-1].weights.append(piece.weight)
    return chunks
