"""Captions over a small vocabulary through a transformer that is trained with the denoiser (papers D.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.conditioning.caption import CaptionConfig, CaptionEmbedder, Tokenized, refuse_embeddings
from darkroom.conditioning.weighted_text import WeightedText, token_weights
from darkroom.models.text_transformer import TextTransformer, TextTransformerConfig
from darkroom.models.tokenizer import WordTokenizer

__all__ = ["WordText", "WordTextConfig"]


@dataclass(frozen=True)
class WordTextConfig(CaptionConfig):
    """`words` is the whole vocabulary; three special tokens are added."""

    words: tuple[str, ...]
    length: int
    width: int
    layers: int
    heads: int
    head_dim: int
    drop_rate: float
    kind: Literal["word_text"] = "word_text"


class WordText(CaptionEmbedder):
    """Absent: the empty sentence, which is also the unconditional branch."""

    config: WordTextConfig

    def __init__(self, config: WordTextConfig) -> None:
        super().__init__(config)
        c = config
        self.tokenizer = WordTokenizer(c.words, c.length)
        self.transformer = TextTransformer(
            TextTransformerConfig(len(self.tokenizer), c.length, c.width, c.layers, c.heads, c.head_dim)
        )

    def tokenize(self, texts: Sequence[WeightedText | None]) -> list[Tokenized]:
        return [Tokenized(None) if t is None else self._tokenized(t) for t in texts]

    def _tokenized(self, text: WeightedText) -> Tokenized:
        refuse_embeddings(text)
        length = self.tokenizer.length
        weights = token_weights(text, self.tokenizer.split, length - 1)
        return Tokenized(text.text, [*weights, *[1.0] * (length - len(weights))])

    def prepare(self, values: Sequence[str | None]) -> Tensor:
        return torch.tensor([self.tokenizer.encode(text or "") for text in values])  # (B, length)

    def features(self, prepared: Tensor) -> Tensor:
        return self.transformer(prepared)  # (B, length, width)
