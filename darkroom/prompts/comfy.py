"""ComfyUI's prompts: `(x)` is 1.1 times the weight around it, `(x:1.3)` is 1.3 whatever is around it.

All else is text: square brackets, AND, BREAK, `<…>`. `\\(` and `\\)` are the brackets themselves; other backslashes
stay.
"""

from __future__ import annotations

import contextlib

from darkroom.prompts.pieces import MAX_DEPTH, Piece, printed

__all__ = ["translated"]

_HIDDEN = {"\\(": "\ue000", "\\)": "\ue001"}  # stand for escaped brackets meanwhile, as private characters
_SHOWN = str.maketrans({"\ue000": "(", "\ue001": ")"})


def translated(text: str, lost: list[str]) -> str:
    """A prompt of ComfyUI in A1111's grammar; `lost` is told what that cannot say."""
    for escaped, hidden in _HIDDEN.items():
        text = text.replace(escaped, hidden)
    return printed([(piece.translate(_SHOWN), weight) for piece, weight in _weighted(text, 1.0, MAX_DEPTH)], lost)


def _weighted(text: str, weight: float, depth: int) -> list[Piece]:
    pieces: list[Piece] = []
    for group in _groups(text):
        if not (depth and len(group) >= 2 and group[0] == "(" and group[-1] == ")"):
            pieces.append((group, weight))
            continue
        body, inner = group[1:-1], weight * 1.1
        colon = body.rfind(":")
        if colon > 0:
            with contextlib.suppress(ValueError):
                body, inner = body[:colon], float(body[colon + 1 :])
        pieces += _weighted(body, inner, depth - 1)
    return pieces


def _groups(text: str) -> list[str]:
    """`text` cut around its outermost pairs of brackets. As in ComfyUI a bracket left open begins a last group."""
    groups: list[str] = []
    begin, depth = 0, 0
    for i, sign in enumerate(text):
        if sign == "(":
            if depth == 0 and begin < i:
                groups.append(text[begin:i])
                begin = i
            depth += 1
        elif sign == ")":
            depth -= 1
            if depth == 0:
                groups.append(text[begin : i + 1])
                begin = i + 1
    return [*groups, text[begin:]] if begin < len(text) else groups
