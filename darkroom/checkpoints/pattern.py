"""Regular expressions that stand in files, matched in bounded time.

PEFT names layers by regular expressions, and a hostile one can keep Python's `re` busy for ever. Here an expression is
a function from the positions where a match may begin to those where it may end, sets of positions being the bits of an
integer: no backtracking, each character of the expression costs one operation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from darkroom.errors import InputError, printable

__all__ = ["PatternTable"]

MAX_PATTERN = 1000  # characters
MAX_NESTING = 8
MAX_TIMES = 100  # that an atom is repeated by a number
MAX_STEPS = 2_000_000  # of one table, in all that is asked of it; one or two seconds. The largest files take 700,000
COST = 8  # steps for comparing a name with one character of an expression
_PLAIN = re.compile(r"\^?(\w|[.-]|\\\.)*\$?")  # most patterns are names
_CLASSES = {"d": str.isdigit, "w": lambda c: c.isalnum() or c == "_", "s": str.isspace}

Positions = int  # bit i: position i of the text
Node = Callable[["_Text", Positions], Positions]


class PatternTable:
    """Values by patterns, of which the first that matches counts; `where` begins error messages.

    A pattern matches a name from its beginning or from behind one of its dots, to its end, as PEFT has it. Raises
    `InputError` for what is no regular expression of a kind that is read.
    """

    def __init__(self, patterns: Mapping[str, object], where: str) -> None:
        self.where = where
        self.steps = MAX_STEPS
        try:
            self._rows = [(self._compiled(pattern), value) for pattern, value in patterns.items()]
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def first(self, name: str, default: object = None) -> object:
        """The value of the first pattern that matches `name`."""
        text = _Text(name, self)
        return next((value for matches, value in self._rows if matches(text)), default)

    def spend(self, steps: int) -> None:
        """Count `steps`."""
        self.steps -= steps
        if self.steps < 0:
            raise InputError(f"{self.where}: its patterns take more than {MAX_STEPS} steps to compare with the layers")

    def _compiled(self, pattern: str) -> Callable[[_Text], bool]:
        if len(pattern) > MAX_PATTERN:
            raise InputError(f"a pattern has {len(pattern)} characters, accepted are at most {MAX_PATTERN}")
        if _PLAIN.fullmatch(pattern):
            self.spend(1)
            return self._plain(pattern)
        self.spend(4 * COST * len(pattern))
        node = _Parser(pattern).parse()
        return lambda text: bool(node(text, text.starts) >> len(text.text) & 1)

    def _plain(self, pattern: str) -> Callable[[_Text], bool]:
        """A pattern without repetition: it matches the last characters of a name, or not."""
        body = pattern.removeprefix("^").removesuffix("$")
        members = [None if c == "." else c[-1] for c in re.findall(r"\\?.", body)]  # None: any character

        def matches(text: _Text) -> bool:
            self.spend(1)
            begin = len(text.text) - len(members)
            if begin < 0 or (begin and (pattern.startswith("^") or text.text[begin - 1] != ".")):
                return False
            return all(m is None or m == c for m, c in zip(members, text.text[begin:]))

        return matches


class _Text:
    """A name that patterns are compared with."""

    def __init__(self, text: str, table: PatternTable) -> None:
        self.text = text
        self.starts = 1 | self.where(lambda c: c == ".") << 1
        self.everywhere = (2 << len(text)) - 1
        self.spend = table.spend

    def where(self, accepts: Callable[[str], bool]) -> Positions:
        """The positions of the characters that `accepts` takes."""
        return sum(1 << i for i, c in enumerate(self.text) if accepts(c))


def _one(accepts: Callable[[str], bool]) -> Node:
    def run(text: _Text, starts: Positions) -> Positions:
        text.spend(COST)
        return (starts & text.where(accepts)) << 1

    return run


def _sequence(nodes: list[Node]) -> Node:
    def run(text: _Text, starts: Positions) -> Positions:
        for node in nodes:
            starts = node(text, starts) if starts else 0
        return starts

    return run


def _either(nodes: list[Node]) -> Node:
    def run(text: _Text, starts: Positions) -> Positions:
        ends = 0
        for node in nodes:
            ends |= node(text, starts)
        return ends

    return run


def _repeated(node: Node, least: int, most: int | None) -> Node:
    """`node`, `least` times to `most` times; None: without end."""

    def run(text: _Text, starts: Positions) -> Positions:
        for _ in range(least):
            text.spend(COST)
            starts = node(text, starts)
        ends = fresh = starts
        left = -1 if most is None else most - least
        while fresh and left:
            text.spend(COST)
            fresh = node(text, fresh) & ~ends
            ends |= fresh
            left -= 1
        return ends

    return run


def _at(positions: Callable[[_Text], Positions]) -> Node:
    """What takes no character and holds at some positions."""

    def run(text: _Text, starts: Positions) -> Positions:
        text.spend(COST)
        return starts & positions(text)

    return run


def _ahead(node: Node, text: _Text) -> Positions:
    """The positions at which `node` matches what follows."""
    found = 0
    for i in range(len(text.text) + 1):
        text.spend(COST)
        found |= bool(node(text, 1 << i)) << i
    return found


def _behind(node: Node, text: _Text) -> Positions:
    """The positions at which `node` matches what goes before: where it ends when it may begin anywhere."""
    return node(text, text.everywhere)


def _borders(text: _Text) -> Positions:
    """Of words."""
    words = text.where(_CLASSES["w"])
    return words ^ words << 1


_PLACES: dict[str, Callable[[_Text], Positions]] = {
    "^": lambda text: 1,
    "$": lambda text: 1 << len(text.text),
    r"\A": lambda text: 1,
    r"\Z": lambda text: 1 << len(text.text),
    r"\b": _borders,
    r"\B": lambda text: text.everywhere & ~_borders(text),
}
_LOOKS = {"?=": (_ahead, True), "?!": (_ahead, False), "?<=": (_behind, True), "?<!": (_behind, False)}
_GROUP = re.compile(r"\?(?::|=|!|<=|<!|P<\w+>)")
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_MARKS = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class _Parser:
    """Alternatives, groups, looks ahead and behind, classes, `.`, places such as `^` and the repetitions `*`, `+`, `?`,
    `{2,4}`, by recursive descent. What a group has matched is not kept, so nothing refers back to it.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at, self.depth = pattern, 0, 0

    def parse(self) -> Node:
        node = self.alternatives()
        if self.at < len(self.pattern):
            raise self.wrong("closes a group that was not opened")
        return node

    def wrong(self, cause: str) -> InputError:
        return InputError(f"the pattern {printable(self.pattern, 80)} {cause}")

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        if self.at >= len(self.pattern):
            raise self.wrong("ends in the middle")
        self.at += 1
        return self.pattern[self.at - 1]

    def alternatives(self) -> Node:
        branches = [self.branch()]
        while self.peek() == "|":
            self.take()
            branches.append(self.branch())
        return branches[0] if len(branches) == 1 else _either(branches)

    def branch(self) -> Node:
        nodes: list[Node] = []
        while self.peek() not in ("", "|", ")"):
            node = self.atom()
            times = self.times()
            if times is not None:
                node = _repeated(node, *times)
                if self.peek() == "?":  # a lazy one matches the same names
                    self.take()
            nodes.append(node)
        return _sequence(nodes)

    def times(self) -> tuple[int, int | None] | None:
        """How often the atom before may stand; None where nothing is said."""
        if self.peek() in _MARKS:
            return _MARKS[self.take()]
        count = _COUNT.match(self.pattern, self.at)
        if count is None or not any(count.groups()):
            return None
        self.at = count.end()
        least = int(count[1] or 0)
        most = int(count[3]) if count[3] else None if count[2] else least
        if max(least, most or 0) > MAX_TIMES or least > (most if most is not None else MAX_TIMES):
            raise self.wrong(f"repeats {count[0]} times, accepted are at most {MAX_TIMES}, the lower number first")
        return least, most

    def atom(self) -> Node:
        c = self.take()
        if c == "(":
            return self.group()
        if c == "[":
            return _one(self.members())
        if c in _PLACES:
            return _at(_PLACES[c])
        if c == "\\":
            if c + self.peek() in _PLACES:
                return _at(_PLACES[c + self.take()])
            return _one(self.escaped())
        if c in "*+?{":
            raise self.wrong(f"holds a {c!r} that is not read there")
        return _one(lambda other: True) if c == "." else _one(lambda other: other == c)

    def group(self) -> Node:
        kind = _GROUP.match(self.pattern, self.at)
        if kind is not None:
            self.at = kind.end()
        elif self.peek() == "?":
            raise self.wrong("holds a group of a kind that is not read")
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self.wrong(f"is nested deeper than {MAX_NESTING} groups")
        node = self.alternatives()
        if self.take() != ")":
            raise self.wrong("does not close a group")
        self.depth -= 1
        if kind is None or kind[0] not in _LOOKS:
            return node
        look, wanted = _LOOKS[kind[0]]
        return _at(lambda text: look(node, text) if wanted else text.everywhere & ~look(node, text))

    def escaped(self) -> Callable[[str], bool]:
        c = self.take()
        if c.lower() in _CLASSES:
            accepts = _CLASSES[c.lower()]
            return accepts if c.islower() else lambda other: not accepts(other)
        if c.isalnum():
            raise self.wrong(f"holds \\{c}, which is not read")
        return lambda other: other == c

    def members(self) -> Callable[[str], bool]:
        negated = self.peek() == "^"
        if negated:
            self.take()
        tests: list[Callable[[str], bool]] = []
        while (c := self.take()) != "]" or not tests:
            if c == "\\":
                tests.append(self.escaped())
            elif self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("", "]"):
                self.take()
                last = self.take()
                tests.append(lambda other, c=c, last=last: c <= other <= last)
            else:
                tests.append(lambda other, c=c: other == c)
        return lambda other: any(test(other) for test in tests) != negated
