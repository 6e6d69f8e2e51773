"""What the embedders of captions have in common: words can be weighted, and made of learned vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.conditioning.emphasis import EMPHASES, Emphasis
from darkroom.conditioning.weighted_text import Piece, WeightedText
from darkroom.errors import InputError

__all__ = ["CaptionConfig", "CaptionEmbedder", "Tokenized", "WordTable"]


@dataclass(frozen=True)
class Tokenized:
    """A text as `prepare` takes it, in so many `chunks`, and the weight of each token of its features; without weights
    all are 1."""

    value: Any
    weights: Sequence[float] = ()
    chunks: int = 1


class CaptionConfig(EmbedderConfig):
    """Captions come from the prompts of a request, which differ from step to step and from part to part."""

    key = "caption"
    reads = ("prompt", "negative_prompt")

    @property
    def vector_widths(self) -> tuple[int, ...]:
        """Of the vectors that stand for words, by tower."""
        raise NotImplementedError


@dataclass(frozen=True)
class WordTable:
    """What a tower knows words by: vectors (n, width), and the numbers of those that a text is read as."""

    vectors: Tensor
    numbers: Callable[[str], list[int]]


class CaptionEmbedder(Embedder):
    """Reads the caption as tokens. A subclass says how it makes tokens of a weighted text, and features of tokens."""

    slot = "tokens"
    guided = True
    config: CaptionConfig

    def tokenize(self, texts: Sequence[WeightedText | None]) -> list[Tokenized]:
        """Texts (None: no text), all in equally many chunks, as their features are to be mixed."""
        raise NotImplementedError

    def word_tables(self) -> list[WordTable]:
        """By tower."""
        raise NotImplementedError

    def shared(self, value: Any, vectors: int) -> Any:
        """`value` of `tokenize` cut to what is read at once, its learned words all made of the same `vectors` vectors,
        which whoever calls `forward` hands over."""
        raise NotImplementedError

    def encode(self, values: Sequence[Any], clip_skip: int | None, device: torch.device) -> Tensor | Conditioning:
        """`prepare` and `forward` of what `tokenize` gave, all in equally many chunks."""
        return self(self.prepare(values).to(device), clip_skip)

    def features(self, prepared: Tensor, learned: Sequence[Tensor]) -> Tensor:
        """Prepared tokens (B, …) to features (B, L, D)."""
        raise NotImplementedError

    def blocks(self, length: int, width: int) -> tuple[int, list[int]]:
        """Features (length, width) are weighted block by block: the blocks' length, and their widths side by side."""
        return length, [width]

    def forward(
        self, prepared: Tensor, clip_skip: int | None = None, learned: Sequence[Tensor] = ()
    ) -> Tensor | Conditioning:
        """`clip_skip`: the last layer of CLIP's text encoder to run, counted from its end; 1 is the last. `learned`:
        for each tower the vectors (n, width) that its tokens from the vocabulary on stand for."""
        if clip_skip is not None:
            raise InputError(f"clip skip is {clip_skip}, but this system has no CLIP text encoder")
        return self.features(prepared, learned)

    def condition(
        self,
        captions: Sequence[WeightedText | str | None],
        *,
        emphasis: str,
        clip_skip: int | None,
        device: torch.device,
    ) -> list[Conditioning]:
        """For each caption a row of the slots that it fills, the weights of its words in force as `emphasis` says."""
        how = EMPHASES[emphasis]
        mixtures = [how.mixture(t) if t is not None else [(None, 1.0)] for t in map(_weighted, captions)]
        tokenized = [t for mixture in mixtures for t in self.tokenize([text for text, _ in mixture])]
        encoded = self._encode(tokenized, clip_skip, device)
        if any(w != 1 for t in tokenized for w in t.weights):
            (blank,) = self._encode(self.tokenize([WeightedText(())]), clip_skip, device)
            encoded = [self._emphasized(c, t.weights, blank, how) for c, t in zip(encoded, tokenized)]
        rows, start = [], 0
        for mixture in mixtures:
            rows.append(_mixed(encoded[start : start + len(mixture)], [share for _, share in mixture]))
            start += len(mixture)
        return rows

    def require_widths(self, text: WeightedText) -> None:
        """`InputError` where embeddings in `text` were made for another text encoder."""
        widths = list(self.config.vector_widths)
        for e in text.embeddings:
            if (own := [v.shape[-1] for v in e.vectors]) != widths:
                raise InputError(f"the embedding {e.name!r} holds vectors of widths {own}, expected are {widths}")

    def _encode(
        self, tokenized: Sequence[Tokenized], clip_skip: int | None, device: torch.device
    ) -> list[Conditioning]:
        """A row for each text; texts of equally many chunks go through the encoder together."""
        rows: dict[int, Conditioning] = {}
        for chunks in {t.chunks for t in tokenized}:
            own = [i for i, t in enumerate(tokenized) if t.chunks == chunks]
            found = self.encode([tokenized[i].value for i in own], clip_skip, device)
            found = found if isinstance(found, Conditioning) else Conditioning(tokens=found)
            rows.update({i: found[n] for n, i in enumerate(own)})
        return [rows[i] for i in range(len(tokenized))]

    def _emphasized(
        self, row: Conditioning, weights: Sequence[float], blank: Conditioning, how: Emphasis
    ) -> Conditioning:
        if row.tokens is None or blank.tokens is None or all(w == 1 for w in weights):
            return row
        length, widths = self.blocks(*row.tokens.shape[1:])
        w = torch.tensor(weights, device=row.tokens.device)
        chunks = zip(row.tokens[0].split(length), w.split(length))
        weighed = [_weigh(chunk, w, blank.tokens[0], widths, how) for chunk, w in chunks]
        return replace(row, tokens=torch.cat(weighed)[None])


def _weigh(chunk: Tensor, weights: Tensor, blank: Tensor, widths: list[int], how: Emphasis) -> Tensor:
    if bool((weights == 1).all()):
        return chunk
    towers = zip(chunk.split(widths, dim=1), blank.split(widths, dim=1))  # each by itself: their means differ
    return torch.cat([how.apply(x.float(), weights, empty.float()) for x, empty in towers], dim=1).to(chunk.dtype)


def _weighted(caption: WeightedText | str | None) -> WeightedText | None:
    return WeightedText((Piece(caption),)) if isinstance(caption, str) else caption


def _mixed(rows: Sequence[Conditioning], shares: Sequence[float]) -> Conditioning:
    """The rows' tokens mixed; everything else is that of the first."""
    if len(rows) == 1:
        return rows[0]
    tokens = Conditioning.cat(rows).tokens
    assert tokens is not None, "texts give tokens"
    part = torch.tensor(shares, device=tokens.device)
    part = part / part.sum()
    mixed = (tokens.float() * part[:, None, None]).sum(dim=0, keepdim=True).to(tokens.dtype)
    return replace(rows[0], tokens=mixed)
