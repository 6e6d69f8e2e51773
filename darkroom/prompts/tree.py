"""What a prompt is once it is read: a tree of texts, weights, edits and alternations, and how that is written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from darkroom.conditioning.embedding import Embedding

__all__ = [
    "Alternate",
    "Break",
    "Edit",
    "Learned",
    "LoraTag",
    "Node",
    "Part",
    "Prompt",
    "Sentence",
    "Text",
    "Weighted",
]


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Weighted:
    nodes: tuple[Node, ...]
    weight: float


@dataclass(frozen=True)
class Edit:
    """`before` up to the step `when`, `after` from then on. With `share` it is that share of all steps."""

    before: tuple[Node, ...]
    after: tuple[Node, ...]
    when: float
    share: bool


@dataclass(frozen=True)
class Alternate:
    options: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True)
class Break:
    """The rest begins a new chunk."""


@dataclass(frozen=True)
class Learned:
    """A word that an embedding stands for; `text`: as it is written. `parse` gives none: folders say what they are."""

    text: str
    embedding: Embedding


Node = Text | Learned | Weighted | Edit | Alternate | Break


@dataclass(frozen=True)
class LoraTag:
    name: str
    unet: float = 1.0
    text: float = 1.0

    def __str__(self) -> str:
        return f"<lora:{self.name}:{_number(self.text)}:{_number(self.unet)}>"


@dataclass(frozen=True)
class Sentence:
    """A prompt without AND."""

    nodes: tuple[Node, ...]

    def __str__(self) -> str:
        return _print(self.nodes)


@dataclass(frozen=True)
class Part:
    prompt: Sentence
    weight: float = 1.0


@dataclass(frozen=True)
class Prompt:
    parts: tuple[Part, ...]
    loras: tuple[LoraTag, ...] = ()

    def __str__(self) -> str:
        """A text that parses to an equal prompt."""
        parts = [str(p.prompt) + ("" if p.weight == 1 else f" :{_number(p.weight)}") for p in self.parts]
        return "".join(map(str, self.loras)) + " AND ".join(parts)


SPECIAL = re.compile(r"[()\[\]:|<\\]|\b(?:AND|BREAK)\b")
WORD = re.compile(r"\w")


def _print(nodes: Sequence[Node]) -> str:
    printed: list[str] = []
    for text in filter(None, map(_print_node, nodes)):
        if printed and WORD.match(printed[-1][-1]) and WORD.match(text):
            printed.append("\\")  # vanishes again, and keeps BREAK a word of its own
        printed.append(text)
    return "".join(printed)


def _escaped(found: re.Match[str]) -> str:
    sign = found[0]
    return f"\\{sign}" if len(sign) == 1 else f"{sign[0]}\\{sign[1:]}"


def _print_node(node: Node) -> str:
    match node:
        case Text(text) | Learned(text):
            return SPECIAL.sub(_escaped, text)
        case Break():
            return "BREAK"
        case Weighted(nodes, weight):
            return f"({_print(nodes)}:{_number(weight)})"
        case Alternate(options):
            return f"[{'|'.join(_print(o) for o in options)}]"
        case Edit(before, after, when, share):
            at = _number(when) if share else str(math.floor(when))
            return f"[{_print(before)}:{_print(after)}:{at if '.' in at or not share else at + '.'}]"


def _number(value: float) -> str:
    """Digits without an exponent, as the grammar reads them, that give back the same number."""
    return f"{Decimal(repr(float(value))):f}"
