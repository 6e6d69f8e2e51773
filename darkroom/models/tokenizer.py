"""Word tokens for captions out of a small, known vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["WordTokenizer"]


class WordTokenizer:
    """Lower-cases, drops punctuation, spells quoted words letter by letter; unknown words become `<unk>`.

    Token 0 is padding, 1 unknown, 2 the end of the sentence; then the words in the order given.
    """

    def __init__(self, words: Sequence[str], length: int) -> None:
        self.words = tuple(words)
        self.length = length
        self.index = {word: i for i, word in enumerate(("<pad>", "<unk>", "<end>", *words))}

    def __len__(self) -> int:
        return len(self.index)

    def split(self, text: str) -> list[str]:
        """The tokens of `text` as words."""
        pieces = re.findall(r'"[^"]*"|[\w]+', text.lower())
        found: list[str] = []
        for piece in pieces:
            found += [c for c in piece if c.isalnum()] if piece[0] == '"' else [piece]
        return found

    def unknown(self, text: str) -> list[str]:
        """Words of `text` that the vocabulary lacks."""
        return [word for word in self.split(text) if word not in self.index]

    def encode(self, text: str) -> list[int]:
        """Exactly `length` token numbers: cut at the end or padded."""
        tokens = [self.index.get(word, 1) for word in self.split(text)][: self.length - 1]
        return [*tokens, 2, *[0] * (self.length - 1 - len(tokens))]
