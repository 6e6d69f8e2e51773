"""Captions as BERT's word pieces through a transformer that was trained with the denoiser (papers D.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from darkroom.conditioning.caption import CaptionConfig, CaptionEmbedder, Tokenized, refuse_embeddings
from darkroom.conditioning.weighted_text import WeightedText, token_weights
from darkroom.models.bert_tokenizer import BertTokenizer
from darkroom.models.text_transformer import TextTransformer, TextTransformerConfig

__all__ = ["BertText", "BertTextConfig"]


@dataclass(frozen=True)
class BertTextConfig(CaptionConfig):
    width: int
    layers: int
    length: int = 77
    vocabulary: int = 30522
    heads: int = 8
    head_dim: int = 64
    logits: bool = True  # released files carry an output layer that conditioning never uses
    drop_rate: float = 0.0
    kind: Literal["bert_text"] = "bert_text"


class BertText(CaptionEmbedder):
    """Absent: the empty sentence, fully encoded, which is also the unconditional branch."""

    config: BertTextConfig

    def __init__(self, config: BertTextConfig) -> None:
        super().__init__(config)
        c = config
        self.tokenizer = BertTokenizer(c.length, rows=c.vocabulary)
        self.transformer = TextTransformer(
            TextTransformerConfig(c.vocabulary, c.length, c.width, c.layers, c.heads, c.head_dim, c.logits)
        )

    def look_in(self, folder: Path) -> None:
        self.tokenizer.folder = folder

    def files(self) -> list[Path]:
        return self.tokenizer.files()

    def tokenize(self, texts: Sequence[WeightedText | None]) -> list[Tokenized]:
        return [Tokenized(None) if t is None else self._tokenized(t) for t in texts]

    def _tokenized(self, text: WeightedText) -> Tokenized:
        refuse_embeddings(text)
        length = self.tokenizer.length
        weights = token_weights(text, self.tokenizer.pieces, length - 2)
        return Tokenized(text.text, [1.0, *weights, *[1.0] * (length - 1 - len(weights))])  # behind [CLS]

    def prepare(self, values: Sequence[str | None]) -> Tensor:
        return torch.tensor([self.tokenizer.encode(text or "") for text in values])  # (B, length)

    def features(self, prepared: Tensor) -> Tensor:
        return self.transformer(prepared)  # (B, length, width)
