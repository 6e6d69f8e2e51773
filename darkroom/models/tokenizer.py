"""Word tokens for captions out of a small, known vocabulary."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["WordTokenizer"]


class WordTokenizer:
    """Lower-cases, drops punctuation, spells quoted words letter by letter; unknown words become `<unk>`.

    Token 0 is padding, 1 unknown, 2 the end of the sentence; then the words in the order given.
    """

    front = 0  # nothing stands before a text

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

    def numbers(self, text: str) -> list[int]:
        """Of the words of `text`, as many as there are."""
        return [self.index.get(word, 1) for word in self.split(text)]

    def frame(self, numbers: Sequence[int]) -> list[int]:
        """Exactly `length` numbers: cut, the end, padding."""
        own = numbers[: self.length - 1]
        return [*own, 2, *[0] * (self.length - 1 - len(own))]

    def encode(self, text: str) -> list[int]:
        """`text` as exactly `length` numbers."""
        return self.frame(self.numbers(text))
