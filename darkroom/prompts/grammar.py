"""A1111's prompt grammar: text to a tree and back.

    (x) (x:1.3) [x]         weight × 1.1, × 1.3, ÷ 1.1; brackets nest
    [from:to:when]          prompt editing; also [to:when] and [from::when]
    [a|b]                   alternation, a step each
    x BREAK y               y begins a new chunk of 75 tokens
    x AND y :0.7            prompts of their own, composed with weights
    <lora:name:0.8>         a LoRA; <lora:name:text:unet> with two strengths
    \\( \\) \\[ \\] \\: \\| \\< \\\\    the character itself

As in A1111 a bracket that is never closed weighs all that follows, a closing one without its opening is text, and so
are the signs in [a|b:c], which is neither editing nor alternation. Any other backslash vanishes; `A\\ND` and `B\\REAK`
are thereby the words themselves. Unlike A1111, which splits first, AND within brackets is text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from darkroom.conditioning.embedding import Embedding
from darkroom.errors import InputError

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
    "parse",
]

MAX_LENGTH = 20_000  # characters
MAX_DEPTH = 64  # brackets within brackets
MAX_WEIGHT = 100.0

ROUND = 1.1
SQUARE = 1 / 1.1


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
        tags = [f"<lora:{tag.name}:{_number(tag.text)}:{_number(tag.unet)}>" for tag in self.loras]
        return "".join(tags) + " AND ".join(parts)


def parse(text: str, *, composed: bool = True) -> Prompt:
    """The prompt that `text` means. `InputError` for texts too long or nested too deep, and for impossible numbers.

    Without `composed` it is one part whatever it says: AND and a weight of the whole are text, as in negative prompts.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"the prompt has {len(text)} characters, accepted are at most {MAX_LENGTH}")
    if lone := SURROGATE.search(text):
        raise InputError(
            f"the prompt's character {lone.start() + 1} is {lone[0]!a}, half of one; expected is valid Unicode"
        )
    bare, loras = _take_loras(text)
    reader = _Reader(composed)
    for token in TOKEN.findall(bare):
        reader.read(token)
    return Prompt(reader.finish(), loras)


TAG = re.compile(r"\\.|<(lora|lyco|lycoris|hypernet):([^<>]+)>", re.IGNORECASE | re.DOTALL)  # or an escaped character
# Longest first: an escaped character, a bracket or mark, a word that commands, blanks, other text.
TOKEN = re.compile(r"\\[()\[\]:|<\\]|[()\[\]:|]|\b(?:AND|BREAK)\b|\s+|\w+|[^\w\s()\[\]:|\\]+|\\", re.UNICODE)
NUMBER = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*")
SURROGATE = re.compile(r"[\ud800-\udfff]")


def _take_loras(text: str) -> tuple[str, tuple[LoraTag, ...]]:
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
        where = repr(_short(where))
        raise InputError(f"the weight in {where} is out of range, expected is {-MAX_WEIGHT:g} to {MAX_WEIGHT:g}")
    return weight


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]} … {text[-17:]}"


class _Mark:
    """A `:` or `|` that may turn out to separate or to be text; an empty one says that something stood here."""

    def __init__(self, sign: str) -> None:
        self.sign = sign


class _Reader:
    """Reads tokens with a stack of open brackets, each with what has been read inside it."""

    def __init__(self, composed: bool) -> None:
        self.composed = composed
        self.open: list[tuple[str, list[Node | _Mark]]] = [("", [])]
        self.parts: list[Part] = []

    def read(self, token: str) -> None:
        kind, inside = self.open[-1]
        if token in ("(", "["):
            if len(self.open) > MAX_DEPTH:
                raise InputError(f"the prompt's brackets are nested more than {MAX_DEPTH} deep")
            self.open.append((token, []))
        elif token == ")" and kind == "(":
            self.open.pop()
            self.open[-1][1].extend(_round(inside))
        elif token == "]" and kind == "[":
            self.open.pop()
            self.open[-1][1].extend(_square(inside))
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

    def _end_part(self) -> None:
        inside = self.open[0][1]
        weight = 1.0
        body, number = _trailing_number(inside)
        if number is not None and self.composed:
            inside, weight = body, _limited(number, "AND")
        self.parts.append(Part(Sentence(_stripped(_texts(inside))), weight))
        self.open[0] = ("", [])

    def finish(self) -> tuple[Part, ...]:
        while len(self.open) > 1:  # never closed: weighs all that follows
            kind, inside = self.open.pop()
            weight = ROUND if kind == "(" else SQUARE
            self.open[-1][1].extend(_weighted(_texts(inside), weight))
        self._end_part()
        return tuple(self.parts)


def _round(inside: list[Node | _Mark]) -> list[Node | _Mark]:
    body, number = _trailing_number(inside)
    if number is None:
        return _weighted(_texts(inside), ROUND)
    return _weighted(_texts(body), _limited(number, f"({_print(_texts(inside))})"))


def _square(inside: list[Node | _Mark]) -> list[Node | _Mark]:
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
            found = NUMBER.fullmatch("".join(n.text for n in inside[i + 1 :] if isinstance(n, Text)))
            return (inside[:i], float(found[1])) if found is not None else (inside, None)
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
