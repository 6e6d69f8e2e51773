"""How the weights of words act on what the words became: the ways of A1111, ComfyUI and compel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from darkroom.conditioning.weighted_text import WeightedText
from darkroom.registry import Registry

__all__ = ["EMPHASES", "Emphasis"]


def alone(text: WeightedText) -> Sequence[tuple[WeightedText, float]]:
    """The text itself, with all of the share."""
    return [(text, 1.0)]


@dataclass(frozen=True)
class Emphasis:
    """`apply(tokens (L, D), weights (L,), tokens of the empty text (L, D))` to one chunk of one encoder's features.

    `mixture`: the texts, with their shares, whose features are mixed for a weighted text.
    """

    apply: Callable[[Tensor, Tensor, Tensor], Tensor]
    mixture: Callable[[WeightedText], Sequence[tuple[WeightedText, float]]] = alone


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


def without_weak_pieces(text: WeightedText) -> Sequence[tuple[WeightedText, float]]:
    """compel, for weights below 1: the text beside itself without the piece in question, by tan((1 − w) π/2) against 1.

    That is damian0815's compel in its REMOVE mode. Simplified: its default, MASK, hides the words from the encoder's
    attention in place; and it also draws the tokens of such words towards the empty prompt.
    """
    strong = tuple(replace(p, weight=max(p.weight, 1.0)) for p in text.pieces)
    mixture = [(WeightedText(strong), 1.0)]
    for k, piece in enumerate(text.pieces):
        if piece.weight < 1:
            share = math.tan((1 - max(piece.weight, 1e-4)) * math.pi / 2)
            without = replace(piece, text="", weight=1.0, embedding=None)  # a chunk that it begins still begins here
            mixture.append((WeightedText((*strong[:k], without, *strong[k + 1 :])), share))
    return mixture


EMPHASES: Registry[Emphasis] = Registry("emphasis")
EMPHASES.add("a1111", Emphasis(restore_mean), "original")
EMPHASES.add("no_norm", Emphasis(multiply))
EMPHASES.add("comfy", Emphasis(from_empty), "comfyui")
EMPHASES.add("compel", Emphasis(from_empty, without_weak_pieces))
