"""What a prompt says at each step: editing and alternation resolved, weights multiplied out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from darkroom.conditioning.weighted_text import Piece, WeightedText
from darkroom.prompts.grammar import Alternate, Break, Edit, Learned, Node, Sentence, Text, Weighted

__all__ = ["changes", "flat"]


def flat(sentence: Sentence, step: int, total: int, former: int = 0) -> WeightedText:
    """What `sentence` says at `step` (0-based) of `total`; in a second pass, `former` steps went before.

    A1111 counts steps from 1 but looks its table up by the 0-based step, so the first entry rules the first two steps;
    so it is here, for its pictures to be reproduced. Its second pass counts on: shares from 1 to 2, steps from where
    the first pass ended; what was to change before has changed.
    """
    pieces: list[Piece] = []
    breaks = False
    for node, weight in _walk(sentence.nodes, _Count(max(step, 1), total, former), 1.0):
        if isinstance(node, Break):
            breaks = True
            continue
        piece = Piece(node.text, weight, breaks, node.embedding if isinstance(node, Learned) else None)
        if pieces and not breaks and pieces[-1].weight == weight and pieces[-1].embedding is piece.embedding is None:
            pieces[-1] = replace(pieces[-1], text=pieces[-1].text + piece.text)
        else:
            pieces.append(piece)
        breaks = False
    if pieces:
        pieces[0] = replace(pieces[0], text=pieces[0].text.lstrip())
        pieces[-1] = replace(pieces[-1], text=pieces[-1].text.rstrip())
    return WeightedText(tuple(pieces))


def changes(sentence: Sentence, total: int, former: int = 0) -> list[int]:
    """The steps (0-based, rising, without the first) at which `sentence` says something else than the step before."""
    if not _moves(sentence.nodes):
        return []
    said = [flat(sentence, step, total, former) for step in range(total)]
    return [i for i in range(1, total) if said[i] != said[i - 1]]


def _moves(nodes: Sequence[Node]) -> bool:
    return any(isinstance(n, (Edit, Alternate)) or (isinstance(n, Weighted) and _moves(n.nodes)) for n in nodes)


@dataclass(frozen=True)
class _Count:
    step: int  # from 1 on
    total: int
    former: int

    def before(self, edit: Edit) -> bool:
        when = (edit.when - bool(self.former)) * self.total if edit.share else edit.when - self.former
        return self.step <= min(self.total, int(when))


def _walk(nodes: Sequence[Node], count: _Count, weight: float) -> Iterator[tuple[Text | Learned | Break, float]]:
    """What stands there at this step, in order, and its weight."""
    for node in nodes:
        match node:
            case Text() | Learned() | Break():
                yield node, weight
            case Weighted(inside, own):
                yield from _walk(inside, count, weight * own)
            case Alternate(options):
                yield from _walk(options[(count.step - 1) % len(options)], count, weight)
            case Edit(before, after):
                yield from _walk(before if count.before(node) else after, count, weight)
