"""InvokeAI's prompts, in the syntax of compel: `dog++`, `(a cat)1.3`, `(a, "b")-`, `("a", "b").and(1, 0.5)`.

+ is 1.1 times, - is 0.9 times, and nested weights multiply. Brackets and quotation marks only group; `\\` before one of
( ) " , . + - = takes its meaning away. A run of other signs up to a blank is text, whatever stands in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from darkroom.prompts.pieces import MAX_DEPTH, Piece, printed

__all__ = ["translated"]

PLUS, MINUS = 1.1, 0.9
SIGNS = r"()\",.+\-="

# A word without syntax: + and - belong to it where more of the word follows.
_WORD = re.compile(rf"(?:\\[{SIGNS}]|[+-](?=[^\s{SIGNS}])|[^\s{SIGNS}])+")
_OPERATOR = re.compile(r"(\++|-+)|(-?\d+\.\d*|-?\.\d+|-?\d+)")
_CALL = re.compile(r"\.(attend|swap)\(([^()]*)\)")
_LORA = re.compile(r"(?:useLora|withLora)\(\s*([\w-]+)\s*(?:,\s*(-?\d+(?:\.\d*)?|-?\.\d+)\s*)?\)")
_LISTED = re.compile(r"\s*\.(and|add|blend)\(([^()]*)\)\s*")
_ESCAPED = re.compile(rf"\\([{SIGNS}])")
_RUN = re.compile(r"\S+")
_EMBEDDING = re.compile(r"<([\w.-]+)>")  # a textual inversion, by the name of its file


def translated(text: str, lost: list[str], *, composed: bool = True) -> tuple[str, list[tuple[str, float]]]:
    """(A prompt of InvokeAI in A1111's grammar, the LoRAs that it names with their weights).

    `.and()` becomes BREAK, which encodes the parts apart as well; `.blend()` becomes AND, which mixes estimates in
    place of conditionings, without `composed` BREAK too; `.swap()` becomes its first text. `lost` is told of the latter
    two and of all that cannot be said.
    """
    reader = _Reader(_EMBEDDING.sub(r"embedding:\1", text), lost)
    parts, operator, weights = reader.listed()
    if operator is None:
        return printed(reader.prompt(0, len(reader.text), 1.0), lost).strip(), reader.loras
    if len(weights) not in (0, len(parts)):
        lost.append(f"the {len(weights)} weights of {len(parts)} prompts in .{operator}()")
        weights = []
    weights = weights or [1.0] * len(parts)
    if operator == "blend":
        lost.append(f"the blend of prompts, of which {'AND' if composed else 'BREAK'} is the nearest here")
    if operator == "blend" and composed:
        total = sum(weights) or 1.0
        prompts = [printed(reader.prompt(*part, 1.0), lost) for part in parts]
        return " AND ".join(f"{p} :{w / total:.6g}" for p, w in zip(prompts, weights)), reader.loras
    prompts = [printed(reader.prompt(*part, weight), lost) for part, weight in zip(parts, weights)]
    return " BREAK ".join(prompts), reader.loras


@dataclass
class _Reader:
    """Reads spans of `text`; where each bracket closes is found once."""

    text: str
    lost: list[str]
    loras: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.closing: dict[int, int] = {}  # place of an opening sign to that of its closing one
        brackets: list[int] = []
        quote: int | None = None
        escaped = False
        for i, sign in enumerate(self.text):
            if escaped:
                escaped = False
            elif sign == "\\":
                escaped = True
            elif sign == "(":
                brackets.append(i)
            elif sign == ")" and brackets:
                self.closing[brackets.pop()] = i
            elif sign == '"':
                if quote is None:
                    quote = i
                else:
                    self.closing[quote], quote = i, None

    def listed(self) -> tuple[list[tuple[int, int]], str | None, list[float]]:
        """(Spans of the prompts, operator, weights) of a text that is `(…, …).and(…)`; without one there are none."""
        begin = len(self.text) - len(self.text.lstrip())
        end = self.closing.get(begin) if self.text[begin : begin + 1] == "(" else None
        found = None if end is None else _LISTED.fullmatch(self.text, end + 1)
        if end is None or found is None:
            return [], None, []
        options = [option.strip() for option in found[2].split(",") if option.strip()]
        weights: list[float] = []
        for option in options:
            try:
                weights.append(float(option))
            except ValueError:
                self.lost.append(f"{option} of .{found[1]}()")
        return self._spans(begin + 1, end), found[1], weights

    def _spans(self, begin: int, end: int) -> list[tuple[int, int]]:
        """What stands between the commas outside of brackets and quotation marks, without such signs around it."""
        spans, first, i = [], begin, begin
        while i <= end:
            if i == end or self.text[i] == ",":
                a, b = first, i
                while a < b and self.text[a].isspace():
                    a += 1
                while b > a and self.text[b - 1].isspace():
                    b -= 1
                spans.append((a + 1, b - 1) if self.closing.get(a) == b - 1 else (a, b))
                first = i + 1
            i = max(i, min(self.closing.get(i, i), end - 1)) + 1
        return spans

    def prompt(self, begin: int, end: int, weight: float, depth: int = MAX_DEPTH, *, runs: bool = True) -> list[Piece]:
        """The pieces of a span. With `runs` (outside of brackets) what is no syntax is text up to the next blank."""
        pieces: list[Piece] = []
        i = begin
        while i < end:
            following, found = self._item(i, end, weight, depth)
            if found is None:
                run = _RUN.match(self.text, i, end) if runs else None
                following = i + 1 if run is None else run.end()
                found = [(_ESCAPED.sub(r"\1", self.text[i:following]), weight)]
            pieces += found
            i = following
        return pieces

    def _item(self, i: int, end: int, weight: float, depth: int) -> tuple[int, list[Piece] | None]:
        """What begins at `i`, if it is syntax: (where it ends, its pieces)."""
        close = self.closing.get(i)
        if close is not None and close < end and depth:
            after, factor = self._operator(close + 1, end, numbers=True)
            return after, self.prompt(i + 1, close, weight * factor, depth - 1, runs=False)
        lora = _LORA.match(self.text, i, end)
        if lora is not None:
            self.loras.append((lora[1], float(lora[2] or 1)))
            return lora.end(), []
        word = _WORD.match(self.text, i, end)
        if word is None:
            return i, None
        after, factor = self._operator(word.end(), end, numbers=False)
        if after == word.end() and not (after == end or self.text[after].isspace()):
            return i, None
        return after, [(_ESCAPED.sub(r"\1", word[0]), weight * factor)]

    def _operator(self, i: int, end: int, *, numbers: bool) -> tuple[int, float]:
        """(Where the operator at `i` ends, the factor that it means)."""
        call = _CALL.match(self.text, i, end)
        if call is not None and call[1] == "swap":
            self.lost.append(f"the swap for {call[2]}")
            return call.end(), 1.0
        found = _OPERATOR.match(call[2].strip()) if call is not None else _OPERATOR.match(self.text, i, end)
        if found is None or (found[2] is not None and not numbers and call is None):
            return i, 1.0
        after = call.end() if call is not None else found.end()
        if found[2] is not None:
            return after, float(found[2])
        return after, (PLUS if found[1][0] == "+" else MINUS) ** len(found[1])
