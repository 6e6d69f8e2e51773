"""Captions through a transformer that was trained with the denoiser: what encoders of words and of pieces share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from darkroom.conditioning.caption import CaptionEmbedder, Tokenized, WordTable
from darkroom.conditioning.conditioning import Conditioning
from darkroom.conditioning.embedding import Embedding, same_vectors
from darkroom.conditioning.weighted_text import Piece, WeightedText, token_weights
from darkroom.models.text_transformer import TextTransformer

__all__ = ["Tokens", "TransformerText"]


class Numbering(Protocol):
    """A tokenizer whose texts all become `length` numbers, the first `front` of which frame the text."""

    length: int
    front: int

    def numbers(self, text: str) -> list[int]:
        """As many as there are."""
        ...

    def frame(self, numbers: Sequence[int]) -> list[int]:
        """Exactly `length` numbers: cut, framed, padded."""
        ...


@dataclass(frozen=True)
class Tokens:
    """A tokenized text without what frames it; numbers from the vocabulary on are the vectors of `embeddings`, numbered
    through."""

    numbers: tuple[int, ...]
    embeddings: tuple[Embedding, ...] = ()


class TransformerText(CaptionEmbedder):
    """Absent: the empty sentence, which is also the unconditional branch. A caption is a text or `Tokens`."""

    tokenizer: Numbering
    transformer: TextTransformer

    @property
    def vocabulary(self) -> int:
        return self.transformer.config.vocabulary

    def tokenize(self, texts: Sequence[WeightedText | None]) -> list[Tokenized]:
        return [Tokenized(None) if t is None else self._tokenized(t) for t in texts]

    def _tokenized(self, text: WeightedText) -> Tokenized:
        self.require_widths(text)
        numbers, weights = self._numbered(text)
        length, front = self.tokenizer.length, self.tokenizer.front
        own = weights[: length - front - 1]  # before the end
        framed = [*[1.0] * front, *own, *[1.0] * (length - front - len(own))]
        return Tokenized(Tokens(tuple(numbers), text.embeddings), framed)

    def _numbered(self, text: WeightedText) -> tuple[list[int], list[float]]:
        """Numbers and weights of all tokens; words do not go across an embedding."""
        numbers: list[int] = []
        weights: list[float] = []
        learned, run = self.vocabulary, list[Piece]()
        for piece in (*text.pieces, None):
            if piece is not None and piece.embedding is None:
                run.append(piece)
                continue
            words = WeightedText(tuple(run))
            found = self.tokenizer.numbers(words.text)
            numbers += found
            weights += token_weights(words, self.tokenizer.numbers, len(found))
            run = []
            if piece is not None and piece.embedding is not None:
                count = len(piece.embedding)
                numbers += range(learned, learned + count)
                weights += [piece.weight] * count
                learned += count
        return numbers, weights

    def word_tables(self) -> list[WordTable]:
        return [WordTable(self.transformer.token_embedding.weight, self.tokenizer.numbers)]

    def shared(self, value: Tokens, vectors: int) -> Tokens:
        return Tokens(tuple(same_vectors(n, self.vocabulary, vectors) for n in value.numbers))

    def prepare(self, values: Sequence[str | Tokens | None]) -> Tensor:
        """(B, length); the embeddings of all texts are numbered through."""
        rows, learned = [], 0
        for value in values:
            tokens = value if isinstance(value, Tokens) else Tokens(tuple(self.tokenizer.numbers(value or "")))
            rows.append(self.tokenizer.frame([n if n < self.vocabulary else n + learned for n in tokens.numbers]))
            learned += sum(map(len, tokens.embeddings))
        return torch.tensor(rows)

    def encode(
        self, values: Sequence[str | Tokens | None], clip_skip: int | None, device: torch.device
    ) -> Tensor | Conditioning:
        vectors = [e.vectors[0] for v in values if isinstance(v, Tokens) for e in v.embeddings]
        learned = [torch.cat(vectors).to(device)] if vectors else []
        return self(self.prepare(values).to(device), clip_skip, learned)

    def features(self, prepared: Tensor, learned: Sequence[Tensor]) -> Tensor:
        return self.transformer(prepared, *learned)  # (B, length, width)
