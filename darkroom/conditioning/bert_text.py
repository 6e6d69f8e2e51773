"""Captions as BERT's word pieces through a transformer that was trained with the denoiser (papers D.2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from darkroom.conditioning.caption import CaptionConfig
from darkroom.conditioning.transformer_text import TransformerText
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

    @property
    def vector_widths(self) -> tuple[int, ...]:
        return (self.width,)


class BertText(TransformerText):
    config: BertTextConfig
    tokenizer: BertTokenizer

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
