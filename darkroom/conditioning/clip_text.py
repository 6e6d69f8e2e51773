"""Prompts through one or two frozen CLIP text towers (papers D.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from darkroom.conditioning.caption import CaptionConfig, CaptionEmbedder, Tokenized, WordTable
from darkroom.conditioning.chunks import Chunk, chunked
from darkroom.conditioning.conditioning import Conditioning
from darkroom.conditioning.embedding import Embedding, same_vectors
from darkroom.conditioning.weighted_text import WeightedText
from darkroom.errors import InputError
from darkroom.models.clip import ClipTextConfig, ClipTextTower, TextFeatures
from darkroom.models.clip_tokenizer import ClipTokenizer

__all__ = ["ClipText", "ClipTextEmbedderConfig", "TextTowerConfig", "TokenChunks"]

ZEROED = -1  # a token that says: this row is zeros


@dataclass(frozen=True)
class TextTowerConfig:
    """A tower and how its output is used."""

    tower: ClipTextConfig
    skip: int  # last layers left out of the tokens; 1: penultimate
    norm: bool  # whether the tokens pass the final norm
    padding: int | None  # the token behind the end; None: the end token again
    pooled: bool = False  # whether the pooled output goes into the vector


@dataclass(frozen=True)
class ClipTextEmbedderConfig(CaptionConfig):
    """`absent`: what stands for no text, the empty prompt or zeros in all outputs."""

    towers: tuple[TextTowerConfig, ...]
    absent: Literal["empty", "zeros"]
    drop_rate: float = 0.0
    kind: Literal["clip_text"] = "clip_text"

    @property
    def vector_widths(self) -> tuple[int, ...]:
        return tuple(t.tower.width for t in self.towers)


@dataclass(frozen=True)
class TokenChunks:
    """A prompt that somebody else has tokenized: for each tower, for each chunk, the tokens without start and end.

    All towers have the same number of chunks; each chunk holds at most 75 tokens. Tokens from a tower's vocabulary on
    are the vectors of `embeddings`, numbered through.
    """

    towers: tuple[tuple[tuple[int, ...], ...], ...]
    embeddings: tuple[Embedding, ...] = ()


class ClipText(CaptionEmbedder):
    """Tokens of all towers joined along their width; the pooled outputs in the vector.

    A caption is a text, cut at 75 tokens, or `TokenChunks`. Chunks run through the towers one by one, are joined along
    the length, and the first gives the pooled output. A prompt has the chunks that it fills, whatever it is beside (as
    A1111, which has its padding of the shorter of two prompts off, and ComfyUI).
    """

    config: ClipTextEmbedderConfig

    def __init__(self, config: ClipTextEmbedderConfig) -> None:
        super().__init__(config)
        self.towers = nn.ModuleList(ClipTextTower(t.tower) for t in config.towers).requires_grad_(False)
        self.tokenizers = tuple(
            ClipTokenizer(t.tower.length, t.padding, rows=t.tower.vocabulary) for t in config.towers
        )

    def look_in(self, folder: Path) -> None:
        for tokenizer in self.tokenizers:
            tokenizer.folder = folder

    def files(self) -> list[Path]:
        return self.tokenizers[0].files()

    def tokenize(self, texts: Sequence[WeightedText | None]) -> list[Tokenized]:
        found = [None if t is None else self._chunks(t) for t in texts]
        count = max((len(towers[0]) for towers in found if towers is not None), default=1)
        return [
            Tokenized(None) if text is None or towers is None else self._tokenized(text, towers, count)
            for text, towers in zip(texts, found)
        ]

    def _chunks(self, text: WeightedText) -> list[list[Chunk]]:
        self.require_widths(text)
        sizes = [t.tower.vocabulary for t in self.config.towers]
        return [chunked(tokenizer, text, size) for tokenizer, size in zip(self.tokenizers, sizes)]

    def _tokenized(self, text: WeightedText, towers: list[list[Chunk]], count: int) -> Tokenized:
        """Of each tower's chunks, filled up with empty ones to `count`; the weights are the same for all towers."""
        towers = [[*chunks, *[Chunk()] * (count - len(chunks))] for chunks in towers]
        weights: list[float] = []
        for chunk in towers[0]:  # start, tokens, end, padding
            weights += [1.0, *chunk.weights, *[1.0] * (self.tokenizers[0].length - 1 - len(chunk.weights))]
        tokens = tuple(tuple(tuple(c.tokens) for c in t) for t in towers)
        return Tokenized(TokenChunks(tokens, text.embeddings), weights, count)

    def word_tables(self) -> list[WordTable]:
        towers: list[Any] = list(self.towers)
        return [WordTable(t.token_embedding.weight, tokenizer.tokens) for t, tokenizer in zip(towers, self.tokenizers)]

    def shared(self, value: TokenChunks, vectors: int) -> TokenChunks:
        """The first chunk."""
        sizes = [t.tower.vocabulary for t in self.config.towers]
        return TokenChunks(
            tuple((tuple(same_vectors(n, s, vectors) for n in chunks[0]),) for chunks, s in zip(value.towers, sizes))
        )

    def blocks(self, length: int, width: int) -> tuple[int, list[int]]:
        return self.tokenizers[0].length, [t.tower.width for t in self.config.towers]

    def prepare(self, values: Sequence[str | TokenChunks | None]) -> Tensor:
        """All of equally many chunks; the embeddings of all of them are numbered through."""
        rows, learned = [], 0
        for value in values:
            rows.append(self._rows(value, learned))
            learned += sum(map(len, value.embeddings)) if isinstance(value, TokenChunks) else 0
        if len(counts := {len(row[0]) for row in rows}) > 1:
            raise ValueError(f"prompts of {sorted(counts)} chunks cannot be prepared together")
        return torch.tensor(rows).flatten(2)  # (B, towers, chunks · length)

    def _rows(self, value: str | TokenChunks | None, learned: int) -> list[list[list[int]]]:
        """For each tower, for each chunk, exactly `length` tokens; vectors are numbered behind `learned` others."""
        if value is None and self.config.absent == "zeros":
            return [[[ZEROED] * t.length] for t in self.tokenizers]
        if isinstance(value, TokenChunks):
            if len(value.towers) != len(self.towers) or len({len(t) for t in value.towers}) != 1:
                raise InputError(
                    f"a tokenized prompt must have equally many chunks for each of {len(self.towers)} towers"
                )
            sizes = [t.tower.vocabulary for t in self.config.towers]
            return [
                [t.frame([n if n < size else n + learned for n in chunk]) for chunk in tower]
                for t, size, tower in zip(self.tokenizers, sizes, value.towers)
            ]
        return [[t.encode(value or "")] for t in self.tokenizers]

    def encode(
        self, values: Sequence[str | TokenChunks | None], clip_skip: int | None, device: torch.device
    ) -> Conditioning:
        embeddings = [e for v in values if isinstance(v, TokenChunks) for e in v.embeddings]
        tables = zip(*(e.vectors for e in embeddings))  # by tower
        learned = [torch.cat(vectors).to(device) for vectors in tables]
        return self(self.prepare(values).to(device), clip_skip, learned)

    def forward(self, prepared: Tensor, clip_skip: int | None = None, learned: Sequence[Tensor] = ()) -> Conditioning:
        """`learned`: for each tower the vectors (n, width) that its tokens from the vocabulary on stand for."""
        parts = [
            self._features(i, prepared[:, i], clip_skip, learned[i] if learned else None)
            for i in range(len(self.towers))
        ]
        shown = prepared[:, 0, 0] != ZEROED  # (B,)
        tokens = torch.cat([p.tokens for p in parts], dim=-1)  # (B, chunks · length, sum of widths)
        pooled = [p.pooled for p in parts if p.pooled is not None]
        return Conditioning(
            tokens=tokens * shown.view(-1, 1, 1).to(tokens),
            vector=torch.cat(pooled, dim=-1) * shown.view(-1, 1).to(tokens) if pooled else None,
        )

    def _features(self, i: int, tokens: Tensor, clip_skip: int | None, learned: Tensor | None) -> TextFeatures:
        config = self.config.towers[i]
        layers = config.tower.layers
        if clip_skip is not None and not 1 <= clip_skip <= layers:
            raise InputError(f"clip skip is {clip_skip}, expected is 1 (the last layer) to {layers}")
        skip = config.skip if clip_skip is None else clip_skip - 1
        chunks = tokens.clamp(min=0).unflatten(1, (-1, config.tower.length))  # (B, chunks, length)
        found = self.towers[i](chunks.flatten(0, 1), skip=skip, norm=config.norm, pooled=config.pooled, learned=learned)
        features = found.tokens.unflatten(0, chunks.shape[:2])
        pooled = None if found.pooled is None else found.pooled.unflatten(0, chunks.shape[:2])[:, 0]
        return TextFeatures(features.flatten(1, 2), pooled)
