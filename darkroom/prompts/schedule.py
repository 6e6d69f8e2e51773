"""What a prompt says at each step: editing and alternation resolved, weights multiplied out.

A sentence is held as a binary tree of its parts. Each part knows when its words change and keeps what it said, so that
a step costs little more than what is new in it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from darkroom.conditioning.weighted_text import Piece, WeightedText
from darkroom.prompts.tree import Alternate, Break, Edit, Learned, Node, Sentence, Text, Weighted

__all__ = ["Wording", "flat"]


class Wording:
    """What `sentence` says over the `total` steps of a run; in a second pass, `former` steps went before.

    A1111 counts steps from 1 but looks its table up by the 0-based step, so the first entry rules the first two steps;
    so it is here, for its pictures to be reproduced. Its second pass counts on: shares from 1 to 2, steps from where
    the first pass ended; what was to change before has changed.
    """

    def __init__(self, sentence: Sentence, total: int, former: int = 0) -> None:
        self._words = _Steps(total, former).joined(sentence.nodes, 1.0)
        self._texts: dict[_Key, WeightedText] = {}
        self.total = total

    def at(self, step: int) -> WeightedText:
        """At `step` (0-based)."""
        step = max(step, 1)
        key = self._words.key(step)
        if key not in self._texts:
            self._texts[key] = WeightedText(_stripped(self._words.said(step)))
        return self._texts[key]

    def changes(self) -> list[int]:
        """The steps (0-based, rising, without the first) at which an edit changes or an alternation goes on."""
        if self._words.period > 1:
            return list(range(2, self.total))
        return [end + 1 for end in self._words.ends if 1 <= end < self.total - 1]


def flat(sentence: Sentence, step: int, total: int, former: int = 0) -> WeightedText:
    """What `sentence` says at one step, as `Wording` has it."""
    return Wording(sentence, total, former).at(step)


_Key = tuple[int, int]
_Pieces = tuple[Piece, ...]
_BREAK = Piece("", breaks=True)  # until the piece that it breaks before is there
_KEPT = 256  # wordings that a part keeps at a time


@dataclass
class _Words:
    """A part of the sentence. `ends`: steps (from 1 on, rising) after which an edit inside changes; `period`: how many
    steps its alternations take to come round; `say`: what it says at a step."""

    ends: tuple[int, ...]
    period: int
    say: Callable[[int], _Pieces]
    kept: dict[_Key, _Pieces] = field(default_factory=dict)

    def key(self, step: int) -> _Key:
        """Equal at steps at which the same is said."""
        return bisect_left(self.ends, step), (step - 1) % self.period

    def said(self, step: int) -> _Pieces:
        key = self.key(step)
        if (pieces := self.kept.get(key)) is None:
            if len(self.kept) == _KEPT:
                self.kept.clear()
            pieces = self.kept[key] = self.say(step)
        return pieces


@dataclass(frozen=True)
class _Steps:
    """Makes parts for a run of `total` steps after `former` ones."""

    total: int
    former: int

    def joined(self, nodes: Sequence[Node], weight: float) -> _Words:
        """The nodes one after the other, halved until they are single."""
        if len(nodes) > 1:
            half = len(nodes) // 2
            left, right = self.joined(nodes[:half], weight), self.joined(nodes[half:], weight)
            return self.of([left, right], lambda step: _join(left.said(step), right.said(step)))
        return self.single(nodes[0], weight) if nodes else self.of([], lambda step: ())

    def single(self, node: Node, weight: float) -> _Words:
        match node:
            case Weighted(inside, own):
                return self.joined(inside, weight * own)
            case Alternate(options):
                turns = [self.joined(o, weight) for o in (options if len(set(options)) > 1 else options[:1])]
                return self.of(turns, lambda step: turns[(step - 1) % len(turns)].said(step), period=len(turns))
            case Edit(before, after):
                end = self.end(node)
                first, then = self.joined(before, weight), self.joined(after, weight)
                return self.of([first, then], lambda step: (first if step <= end else then).said(step), end=end)
            case Break():
                pieces = (_BREAK,)
            case Text(text):
                pieces = (Piece(text, weight),)
            case Learned(text, embedding):
                pieces = (Piece(text, weight, embedding=embedding),)
        return self.of([], lambda step: pieces)

    def of(
        self, parts: Sequence[_Words], say: Callable[[int], _Pieces], *, end: int | None = None, period: int = 1
    ) -> _Words:
        ends = {e for part in parts for e in part.ends} | ({end} if end is not None else set())
        period = math.lcm(period, *(part.period for part in parts))
        return _Words(tuple(sorted(ends)), min(period, self.total), say)

    def end(self, edit: Edit) -> int:
        """The last step, from 1 on, at which what stood before is said."""
        when = (edit.when - bool(self.former)) * self.total if edit.share else edit.when - self.former
        return min(self.total, int(when))


def _join(left: _Pieces, right: _Pieces) -> _Pieces:
    if not left or not right:
        return left or right
    last, first = left[-1], right[0]
    if last is _BREAK:
        return left[:-1] + (right if first is _BREAK else (replace(first, breaks=True), *right[1:]))
    if first.breaks or last.weight != first.weight or not last.embedding is first.embedding is None:
        return left + right
    return (*left[:-1], Piece(last.text + first.text, last.weight, last.breaks), *right[1:])


def _stripped(pieces: _Pieces) -> _Pieces:
    """Without blanks at either end, and without a break that nothing follows."""
    found = [piece for piece in pieces if piece is not _BREAK]
    if found:
        found[0] = replace(found[0], text=found[0].text.lstrip())
        found[-1] = replace(found[-1], text=found[-1].text.rstrip())
    return tuple(found)
