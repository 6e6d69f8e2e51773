"""A1111's prompt grammar: text to a tree and back.

    (x) (x:1.3) [x]         weight × 1.1, × 1.3, ÷ 1.1; brackets nest
    [from:to:when]          prompt editing; also [to:when] and [from::when]
    [a|b]                   alternation, a step each
    x BREAK y               y begins a new chunk of 75 tokens
    x AND y :0.7            prompts of their own, composed with weights
    <lora:name:0.8>         a LoRA; <lora:name:text:unet> with two strengths
    \\( \\) \\[ \\] \\: \\| \\< \\\\    the character itself

As in A1111 a bracket that is never closed weighs all that follows, a closing one without its opening is text, and so
are the signs in [a|b:c], which is neither editing nor alternation. Round and square brackets may close across each
other, as in `(a, [b:1.3) c]`: each weighs what stands between its ends, and such square brackets only weigh. Any other
backslash vanishes; `A\\ND` and `B\\REAK` are thereby the words themselves. Unlike A1111, which splits first, AND within
brackets is text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from darkroom.errors import InputError
from darkroom.prompts.tree import Alternate, Break, Edit, LoraTag, Node, Part, Prompt, Sentence, Text, Weighted

__all__ = ["MAX_LENGTH", "MAX_WEIGHT", "check_text", "parse", "take_loras"]

MAX_LENGTH = 20_000  # characters
MAX_DEPTH = 64  # brackets within brackets
MAX_WEIGHT = 100.0
MAX_TOTAL = 10_000.0  # of weights around one another

ROUND = 1.1
SQUARE = 1 / 1.1


def parse(text: str, *, composed: bool = True) -> Prompt:
    """The prompt that `text` means. `InputError` for texts too long or nested too deep, and for impossible numbers.

    Without `composed` it is one part whatever it says: AND and a weight of the whole are text, as in negative prompts.
    """
    check_text(text)
    bare, loras = take_loras(text)
    return Prompt(_Reader(TOKEN.findall(bare), composed).read(), loras)


def check_text(text: str) -> None:
    """`InputError` for a text that no prompt can be."""
    if len(text) > MAX_LENGTH:
        raise InputError(f"the prompt has {len(text)} characters, accepted are at most {MAX_LENGTH}")
    if lone := SURROGATE.search(text):
        raise InputError(
            f"the prompt's character {lone.start() + 1} is {lone[0]!a}, half of one; expected is valid Unicode"
        )


TAG = re.compile(r"\\.|<(lora|lyco|lycoris|hypernet):([^<>]+)>", re.IGNORECASE | re.DOTALL)  # or an escaped character
# Longest first: an escaped character, a bracket or mark, a word that commands, blanks, other text.
TOKEN = re.compile(r"\\[()\[\]:|<\\]|[()\[\]:|]|\b(?:AND|BREAK)\b|\s+|\w+|[^\w\s()\[\]:|\\]+|\\", re.UNICODE)
NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*")
# What no weight can be.
ENDLESS = re.compile(r"\s*[+-]?(?:inf(?:inity)?|nan|\d+(?:\.\d*)?e\+?\d{3,})\s*", re.IGNORECASE)
SURROGATE = re.compile(r"[\ud800-\udfff]")


def take_loras(text: str) -> tuple[str, tuple[LoraTag, ...]]:
    """(`text` without the tags of LoRAs, these)."""
    tags: list[LoraTag] = []

    def take(found: re.Match[str]) -> str:
        if found[0][0] == "\\":
            return found[0]
        tags.append(_lora(found[0], found[1].lower(), found[2]))
        return ""

    return TAG.sub(take, text), tuple(tags)


def _lora(tag: str, kind: str, arguments: str) -> LoraTag:
    if kind == "hypernet":
        raise InputError(f"{_short(tag)}: hypernetworks are not supported; known tags are: lora, lyco")
    name, *rest = (a.strip() for a in arguments.split(":"))
    numbers: dict[str, float] = {}
    for place, value in enumerate(rest):
        key, _, given = value.rpartition("=")
        key = key.strip() or ("te", "unet")[min(place, 1)]
        found = NUMBER.fullmatch(given)
        if key not in ("te", "unet") or found is None or place > 1 or not name:
            raise InputError(f"{_short(tag)} is no LoRA's tag, expected is <lora:name:0.8> or <lora:name:text:unet>")
        numbers[key] = _limited(float(found[1]), tag)
    text = numbers.get("te", 1.0)
    return LoraTag(name, numbers.get("unet", text), text)


def _limited(weight: float, where: str) -> float:
    if not abs(weight) <= MAX_WEIGHT:
        expected = f"expected is {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}"
        raise InputError(f"the weight {weight:g} in {_short(where)!r} is out of range, {expected}")
    return weight


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]} … {text[-17:]}"


class _Mark:
    """A `:` or `|` that may turn out to separate or to be text; an empty one says that something stood here."""

    def __init__(self, sign: str) -> None:
        self.sign = sign


@dataclass
class _Span:
    """What has been read since the bracket at token `opening`. `weight`: its own; `total`: with those around it;
    `nested`: by now all brackets inside closed in turn, so that editing and alternation are possible."""

    opening: int
    weight: float
    inside: list[Node | _Mark] = field(default_factory=list)
    nested: bool = True
    total: float = 1.0


def _pairs(tokens: Sequence[str]) -> dict[int, int]:
    """The opening bracket of each closing one by their places, round and square ones apart from each other."""
    stacks: dict[str, list[int]] = {")": [], "]": []}
    pairs: dict[int, int] = {}
    for i, token in enumerate(tokens):
        if token in ("(", "["):
            stacks[")" if token == "(" else "]"].append(i)
            if len(stacks[")"]) + len(stacks["]"]) > MAX_DEPTH:
                raise InputError(f"the prompt's brackets are nested more than {MAX_DEPTH} deep")
        elif stacks.get(token):
            pairs[i] = stacks[token].pop()
    return pairs


def _numbered(tokens: Sequence[str], opening: int, closing: int) -> tuple[int, float] | None:
    """Where the colon of a `:number` right before the closing round bracket stands, and the number."""
    colon = closing - 1
    while colon >= 0 and not (len(tokens[colon]) == 1 and tokens[colon] in "()[]:|"):
        colon -= 1
    if colon < 0 or tokens[colon] != ":":
        return None
    number = _weight(
        "".join(tokens[colon + 1 : closing]), f"({''.join(tokens[max(opening + 1, colon - 20) : closing])})"
    )
    return None if number is None else (colon, number)


def _weight(written: str, where: str) -> float | None:
    """The weight that is `written`; None if that is no number. `InputError` if no weight can be that."""
    if NUMBER.fullmatch(written) or ENDLESS.fullmatch(written):
        return _limited(float(written), where)
    return None


class _Reader:
    """Reads tokens with a stack of open brackets, each with what has been read inside it."""

    def __init__(self, tokens: Sequence[str], composed: bool) -> None:
        self.tokens, self.composed = tokens, composed
        self.opened = _pairs(tokens)
        self.weights: dict[int, float] = {}  # of round brackets that say one, by their places
        self.silent: set[int] = set()  # tokens of such weights
        for closing, opening in self.opened.items():
            if tokens[closing] == ")" and (found := _numbered(tokens, opening, closing)) is not None:
                self.weights[opening] = found[1]
                self.silent |= set(range(found[0], closing))
        self.open = [_Span(-1, 1.0)]
        self.parts: list[Part] = []

    def read(self) -> tuple[Part, ...]:
        for i, token in enumerate(self.tokens):
            if i not in self.silent:
                self._read(i, token)
        while len(self.open) > 1:  # never closed: weighs all that follows
            self._close(self.open[-1].opening)
        self._end_part()
        return tuple(self.parts)

    def _read(self, i: int, token: str) -> None:
        inside = self.open[-1].inside
        if token in ("(", "["):
            self._open(i, self.weights.get(i, ROUND) if token == "(" else SQUARE)
        elif i in self.opened:
            self._close(self.opened[i], whole=self.open[-1].opening == self.opened[i])
        elif token in (")", "]"):
            inside.append(Text(token))
            self._cross()
        elif token in (":", "|"):
            inside.append(_Mark(token))
        elif token == "\\":
            inside.append(_Mark(""))
        elif token == "AND" and len(self.open) == 1 and self.composed:
            self._end_part()
        elif token == "BREAK":
            inside.append(Break())
        else:
            inside.append(Text(token[1] if len(token) == 2 and token[0] == "\\" else token))

    def _open(self, i: int, weight: float) -> None:
        span = _Span(i, weight, total=self.open[-1].total * weight)
        if abs(span.total) > MAX_TOTAL:
            inside = _short("".join(self.tokens[i : i + 20]))
            raise InputError(f"the weights around {inside!r} multiply to {span.total:g}, accepted are {MAX_TOTAL:g}")
        self.open.append(span)

    def _close(self, opening: int, *, whole: bool = False) -> None:
        """Close the bracket at `opening`; those inside it that are still open go on behind it."""
        if not whole:
            self._cross()
        across: list[_Span] = []
        while True:
            span = self.open.pop()
            closes = span.opening == opening
            is_square = whole and self.tokens[opening] == "["
            done = _square(span) if is_square else _weighted(_texts(span.inside), span.weight)
            self.open[-1].inside.extend(done)
            if closes:
                break
            across.append(_Span(span.opening, span.weight, nested=False, total=span.total))
        self.open.extend(reversed(across))

    def _cross(self) -> None:
        for span in self.open:
            span.nested = False

    def _end_part(self) -> None:
        inside = self.open[0].inside
        weight = 1.0
        body, number = _trailing_number(inside)
        if number is not None and self.composed:
            inside, weight = body, number
        self.parts.append(Part(Sentence(_stripped(_texts(inside))), weight))
        self.open[0] = _Span(-1, 1.0)


def _square(span: _Span) -> list[Node | _Mark]:
    inside = span.inside
    if not span.nested:
        return _weighted(_texts(inside), SQUARE)
    signs = {n.sign for n in inside if isinstance(n, _Mark)}
    if "|" in signs and ":" not in signs:
        return [Alternate(tuple(_texts(option) for option in _split(inside, "|")))]
    sections = _split(inside, ":")
    if len(sections) in (2, 3) and "|" not in signs:
        found = NUMBER.fullmatch("".join(n.text for n in sections[-1] if isinstance(n, Text)))
        if found is not None and all(isinstance(n, Text) for n in sections[-1]):
            before, after = ([], sections[0]) if len(sections) == 2 else sections[:2]
            when = float(found[1])
            if not abs(when) <= 1_000_000:
                raise InputError(
                    f"prompt editing at step {found[1][:20]} is out of range, expected are steps or a share"
                )
            return [Edit(_texts(before), _texts(after), when, "." in found[1])]
    return _weighted(_texts(inside), SQUARE)


def _split(inside: Sequence[Node | _Mark], sign: str) -> list[list[Node | _Mark]]:
    sections: list[list[Node | _Mark]] = [[]]
    for node in inside:
        if isinstance(node, _Mark) and node.sign == sign:
            sections.append([])
        else:
            sections[-1].append(node)
    return sections


def _trailing_number(inside: list[Node | _Mark]) -> tuple[list[Node | _Mark], float | None]:
    """What stands before a last `:number`, and the number."""
    for i in range(len(inside) - 1, -1, -1):
        node = inside[i]
        if isinstance(node, _Mark) and node.sign == ":":
            number = _weight("".join(n.text for n in inside[i + 1 :] if isinstance(n, Text)), "AND")
            return (inside[:i], number) if number is not None else (inside, None)
        if not isinstance(node, Text):
            break
    return inside, None


def _weighted(nodes: tuple[Node, ...], weight: float) -> list[Node | _Mark]:
    return [Weighted(nodes, weight)] if nodes else [_Mark("")]


def _texts(inside: Sequence[Node | _Mark]) -> tuple[Node, ...]:
    """Marks that separate nothing are text; neighbouring texts are one."""
    result: list[Node] = []
    run: list[str] = []
    for node in [*inside, None]:
        if isinstance(node, Text):
            run.append(node.text)
        elif isinstance(node, _Mark):
            run.append(node.sign)
        else:
            if any(run):
                result.append(Text("".join(run)))
            run = []
            if node is not None:
                result.append(node)
    return tuple(result)


def _stripped(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Without blanks at either end."""
    result = list(nodes)
    if result and isinstance(result[0], Text):
        result[0] = Text(result[0].text.lstrip())
    if result and isinstance(result[-1], Text):
        result[-1] = Text(result[-1].text.rstrip())
    return tuple(n for n in result if n != Text(""))
