"""What a prompt says at each step: editing and alternation resolved, weights multiplied out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from darkroom.tasks.prompt.grammar import Alternate, Break, Edit, Node, Sentence, Text, Weighted

__all__ = ["Flat", "Piece", "changes", "flat"]


@dataclass(frozen=True)
class Piece:
    """Text of one weight; `breaks`: it begins a new chunk."""

    text: str
    weight: float = 1.0
    breaks: bool = False


@dataclass(frozen=True)
class Flat:
    """A prompt at one step."""

    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return "".join((" " if p.breaks else "") + p.text for p in self.pieces)

    @property
    def plain(self) -> bool:
        """Whether it is nothing but text."""
        return all(p.weight == 1 and not p.breaks for p in self.pieces)


def flat(sentence: Sentence, step: int, total: int) -> Flat:
    """What `sentence` says at `step` (0-based) of `total`.

    A1111 counts steps from 1 but looks its table up by the 0-based step, so the first entry rules the first two steps;
    so it is here, for its pictures to be reproduced.
    """
    pieces: list[Piece] = []
    breaks = False
    for text, weight in _walk(sentence.nodes, max(step, 1), total, 1.0):
        if text is None:
            breaks = True
        elif pieces and pieces[-1].weight == weight and not breaks:
            pieces[-1] = Piece(pieces[-1].text + text, weight, pieces[-1].breaks)
        else:
            pieces.append(Piece(text, weight, breaks))
            breaks = False
    if pieces:
        pieces[0] = Piece(pieces[0].text.lstrip(), pieces[0].weight, pieces[0].breaks)
        pieces[-1] = Piece(pieces[-1].text.rstrip(), pieces[-1].weight, pieces[-1].breaks)
    return Flat(tuple(pieces))


def changes(sentence: Sentence, total: int) -> list[int]:
    """The steps (0-based, rising, without the first) at which `sentence` says something else than the step before."""
    if not _moves(sentence.nodes):
        return []
    said = [flat(sentence, step, total) for step in range(total)]
    return [i for i in range(1, total) if said[i] != said[i - 1]]


def _moves(nodes: Sequence[Node]) -> bool:
    return any(isinstance(n, (Edit, Alternate)) or (isinstance(n, Weighted) and _moves(n.nodes)) for n in nodes)


def _walk(nodes: Sequence[Node], step: int, total: int, weight: float) -> Iterator[tuple[str | None, float]]:
    """(text, weight) in order; None for BREAK. `step` is 1-based."""
    for node in nodes:
        match node:
            case Text(text):
                yield text, weight
            case Break():
                yield None, weight
            case Weighted(inside, own):
                yield from _walk(inside, step, total, weight * own)
            case Alternate(options):
                yield from _walk(options[(step - 1) % len(options)], step, total, weight)
            case Edit(before, after, when, share):
                last = min(total, int(when * total if share else when))
                yield from _walk(before if step <= last else after, step, total, weight)
