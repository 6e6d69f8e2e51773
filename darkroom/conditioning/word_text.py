"""Captions over a small vocabulary through a transformer that is trained with the denoiser (papers D.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from darkroom.conditioning.caption import CaptionConfig
from darkroom.conditioning.transformer_text import TransformerText
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

    @property
    def vector_widths(self) -> tuple[int, ...]:
        return (self.width,)


class WordText(TransformerText):
    config: WordTextConfig
    tokenizer: WordTokenizer

    def __init__(self, config: WordTextConfig) -> None:
        super().__init__(config)
        c = config
        self.tokenizer = WordTokenizer(c.words, c.length)
        self.transformer = TextTransformer(
            TextTransformerConfig(len(self.tokenizer), c.length, c.width, c.layers, c.heads, c.head_dim)
        )
