"""Captions as BERT's word pieces through a transformer that was trained with the denoiser (papers D.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from darkroom.conditioning.embedder import Embedder
from darkroom.models.bert_tokenizer import BertTokenizer
from darkroom.models.text_transformer import TextTransformer, TextTransformerConfig

__all__ = ["BertText", "BertTextConfig"]


@dataclass(frozen=True)
class BertTextConfig:
    width: int
    layers: int
    length: int = 77
    vocabulary: int = 30522
    heads: int = 8
    head_dim: int = 64
    logits: bool = True  # released files carry an output layer that conditioning never uses
    drop_rate: float = 0.0
    kind: Literal["bert_text"] = "bert_text"


class BertText(Embedder):
    """Absent: the empty sentence, fully encoded, which is also the unconditional branch."""

    slot = "tokens"
    key = "caption"
    guided = True

    def __init__(self, config: BertTextConfig) -> None:
        super().__init__()
        c = config
        self.drop_rate = c.drop_rate
        self.tokenizer = BertTokenizer(c.length)
        self.transformer = TextTransformer(
            TextTransformerConfig(c.vocabulary, c.length, c.width, c.layers, c.heads, c.head_dim, c.logits)
        )

    def look_in(self, folder: Path) -> None:
        self.tokenizer.folder = folder

    def prepare(self, values: Sequence[str | None]) -> Tensor:
        return torch.tensor([self.tokenizer.encode(text or "") for text in values])  # (B, length)

    def forward(self, prepared: Tensor) -> Tensor:
        return self.transformer(prepared)  # (B, length, width)
