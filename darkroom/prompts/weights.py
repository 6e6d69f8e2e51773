"""Flat prompts to conditioning: chunks of 75 tokens, and weights on what the tokens became."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from darkroom.conditioning.bert_text import BertText
from darkroom.conditioning.clip_text import ClipText, TokenChunks
from darkroom.conditioning.text import WordText
from darkroom.conditioning.value import Conditioning
from darkroom.errors import InputError
from darkroom.models.clip_tokenizer import ClipTokenizer
from darkroom.prompts.schedule import Flat, Piece
from darkroom.registry import Registry
from darkroom.systems.build import LatentDiffusion

__all__ = ["EMPHASES", "chunked", "encode_prompt"]

CHUNK = 75
BACKTRACK = 20  # a chunk ends behind a comma if one stands among its last tokens (A1111's comma padding)

Emphasis = Callable[[Tensor, Tensor, Tensor], Tensor]  # (tokens (L, D), weights (L,), those of the empty prompt (L, D))
EMPHASES: Registry[Emphasis] = Registry("emphasis")


def restore_mean(tokens: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """A1111: multiply, then bring the chunk back to the mean that it had."""
    scaled = tokens * weights[:, None]
    return scaled * (tokens.mean() / scaled.mean())


def multiply(tokens: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """A1111's "No norm", which it advises for SDXL: multiply, and leave the mean where it goes."""
    return tokens * weights[:, None]


def from_empty(tokens: Tensor, weights: Tensor, empty: Tensor) -> Tensor:
    """ComfyUI: away from the empty prompt by the weight."""
    return empty + (tokens - empty) * weights[:, None]


EMPHASES.add("a1111", restore_mean, "original")
EMPHASES.add("no_norm", multiply)
EMPHASES.add("comfy", from_empty, "comfyui")
EMPHASES.add("compel", from_empty)  # for weights above 1; below, `encode_prompt` blends


def encode_prompt(model: LatentDiffusion, rows: Sequence[Mapping[str, Any]], emphasis: str) -> Conditioning:
    """`model.encode(rows)` for captions that are `Flat` prompts (or plain texts, or None), weights applied.

    "compel" takes weights below 1 its own way: the prompt is blended with itself without the words in question, the
    more the smaller the weight (damian0815's compel, with its REMOVE mode). Simplified: its default, MASK, hides the
    words from the encoder's attention in place; and it also draws the tokens of such words towards the empty prompt.
    """
    captions = [r.get("caption") for r in rows]
    embedder: Any = dict(model.conditioner.embedders.items()).get("caption")
    if all(c is None or isinstance(c, str) or (c.plain and not isinstance(embedder, ClipText)) for c in captions):
        return model.encode([{**r, "caption": _text(c)} for r, c in zip(rows, captions)])
    if embedder is None:
        raise InputError(f"{model.system.name} reads no prompts, so no words can be weighted")
    flats = [c if isinstance(c, Flat) else Flat((Piece(c),)) if isinstance(c, str) else None for c in captions]
    if EMPHASES.name(emphasis) == "compel":
        return _blended(model, rows, flats)
    return _encoded(model, rows, flats, emphasis)


def _text(caption: Flat | str | None) -> str | None:
    return caption.text if isinstance(caption, Flat) else caption


def _encoded(
    model: LatentDiffusion, rows: Sequence[Mapping[str, Any]], flats: Sequence[Flat | None], emphasis: str
) -> Conditioning:
    embedder: Any = model.conditioner.embedders["caption"]
    read = [_read(embedder, f) for f in flats]
    c = model.encode([{**r, "caption": value} for r, (value, _) in zip(rows, read)])
    if c.tokens is None or all(w == 1 for _, weights in read for w in weights):
        return c
    apply, length = EMPHASES[emphasis], embedder.tokenizers[0].length if isinstance(embedder, ClipText) else None
    blank: Any = TokenChunks(tuple(((),) for _ in embedder.towers)) if isinstance(embedder, ClipText) else ""
    empty = model.encode([{**rows[0], "caption": blank}]).tokens
    assert empty is not None, "the same system as above"
    widths = _widths(embedder, c.tokens.shape[-1])
    result = c.tokens.clone()
    for i, (_, weights) in enumerate(read):
        size = length or len(result[i])
        weights = [*weights, *[1.0] * (len(result[i]) - len(weights))]
        for start in range(0, len(weights), size):
            w = torch.tensor(weights[start : start + size], device=result.device)
            if bool((w == 1).all()):
                continue
            at = 0
            for width in widths:  # every tower by itself: their means differ
                place = (i, slice(start, start + size), slice(at, at + width))
                new = apply(c.tokens[place].float(), w, empty[0, :size, at : at + width].float())
                result[place] = new.to(result.dtype)
                at += width
    return replace(c, tokens=result)


def _blended(model: LatentDiffusion, rows: Sequence[Mapping[str, Any]], flats: Sequence[Flat | None]) -> Conditioning:
    """Weights above 1 as ComfyUI's; each piece below 1 adds the prompt without it, by tan((1 − w) π/2) against 1."""
    variants: list[tuple[int, Flat | None, float]] = []
    for i, flat in enumerate(flats):
        strong = None if flat is None else Flat(tuple(replace(p, weight=max(p.weight, 1.0)) for p in flat.pieces))
        variants.append((i, strong, 1.0))
        for k, piece in enumerate(flat.pieces if flat is not None else ()):
            if piece.weight < 1 and strong is not None:
                share = math.tan((1 - max(piece.weight, 1e-4)) * math.pi / 2)
                without = replace(piece, text="", weight=1.0)  # a chunk that it begins still begins here
                variants.append((i, Flat((*strong.pieces[:k], without, *strong.pieces[k + 1 :])), share))
    every = _encoded(model, [rows[i] for i, _, _ in variants], [f for _, f, _ in variants], "comfy")
    assert every.tokens is not None, "the caption's embedder gives tokens"
    shares = torch.tensor([share for _, _, share in variants], device=every.tokens.device)
    result, firsts = [], []
    for i in range(len(rows)):
        own = torch.tensor([n for n, (row, _, _) in enumerate(variants) if row == i], device=shares.device)
        part = shares[own] / shares[own].sum()
        result.append((every.tokens[own].float() * part[:, None, None]).sum(dim=0).to(every.tokens.dtype))
        firsts.append(own[0])
    return replace(every[torch.stack(firsts)], tokens=torch.stack(result))


def _widths(embedder: Any, total: int) -> list[int]:
    if isinstance(embedder, ClipText):
        return [t.tower.width for t in embedder.config.towers]
    return [total]


def _read(embedder: Any, flat: Flat | None) -> tuple[Any, list[float]]:
    """(What the embedder takes for the prompt, a weight for each of its tokens)."""
    if flat is None:
        return None, []
    if isinstance(embedder, ClipText):
        towers = [chunked(t, flat) for t in embedder.tokenizers]
        weights = [w for chunk in towers[0][1] for w in (1.0, *chunk, *[1.0] * (CHUNK + 1 - len(chunk)))]
        return TokenChunks(tuple(chunks for chunks, _ in towers)), weights
    if isinstance(embedder, WordText):
        return flat.text, _word_weights(flat, embedder.tokenizer.split, embedder.tokenizer.length - 1)
    if isinstance(embedder, BertText):
        weights = _word_weights(flat, embedder.tokenizer.pieces, embedder.tokenizer.length - 2)
        return flat.text, [1.0, *weights]  # behind [CLS]
    raise InputError("this system's text encoder takes no weighted words")


def _word_weights(flat: Flat, split: Callable[[str], Sequence[object]], limit: int) -> list[float]:
    """A weight for each of the first `limit` tokens of the whole text.

    A word that runs over pieces of unlike weights (`cat(s:1.2)`) is still one token, of the weight it begins with.
    """
    weights: list[float] = []
    for i, piece in enumerate(flat.pieces):
        if not piece.text.strip():
            continue
        count = len(split(Flat(flat.pieces[: i + 1]).text))
        weights = [*weights, *[piece.weight] * (count - len(weights))][:count]
        if count >= limit:
            break
    return weights[:limit]


def chunked(tokenizer: ClipTokenizer, prompt: Flat) -> tuple[tuple[tuple[int, ...], ...], list[list[float]]]:
    """The tokens of `prompt` in chunks of at most 75, and their weights: at least one chunk, cut as A1111 does."""
    (comma,) = tokenizer.tokens(",")
    chunks: list[list[int]] = [[]]
    weights: list[list[float]] = [[]]
    last_comma: int | None = None
    for piece in prompt.pieces:
        if piece.breaks:
            chunks.append([])
            weights.append([])
            last_comma = None
        for token in tokenizer.tokens(piece.text):
            if len(chunks[-1]) == CHUNK:
                keep = CHUNK
                if last_comma is not None and CHUNK - last_comma <= BACKTRACK and token != comma:
                    keep = last_comma + 1
                chunks.append(chunks[-1][keep:])
                weights.append(weights[-1][keep:])
                del chunks[-2][keep:], weights[-2][keep:]
                last_comma = None
            if token == comma:
                last_comma = len(chunks[-1])
            chunks[-1].append(token)
            weights[-1].append(piece.weight)
    return tuple(tuple(c) for c in chunks), weights
