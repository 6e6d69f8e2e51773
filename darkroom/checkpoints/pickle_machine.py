"""A pickle reader that cannot run code: it builds plain values and inert notes of everything else.

Python's unpickler calls whatever the file names. This machine knows no functions at all: a global becomes a `Global`
(its name), calling one becomes a `Call` (name and arguments), setting state is forgotten. What the calls mean is left
to the caller, who looks at a few names that torch writes. A file that names what runs programs or writes files is
refused all the same: it does no harm here, but was made to. Every opcode takes constant time or time in proportion to
the bytes it has read, nothing recurses, and both bytes and opcodes are limited, so hostile files end soon.
Opcodes: CPython's Lib/pickletools.py; protocols 0 to 5.
"""

from __future__ import annotations

import pickle as op
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from darkroom.checkpoints.harmful import is_harmful
from darkroom.errors import InputError

__all__ = [
    "DICTS",
    "MAX_BYTES",
    "Call",
    "Global",
    "PersistentId",
    "PickleError",
    "Pickled",
    "load_pickle",
]

MAX_BYTES = 64 << 20  # of one pickle; the largest public checkpoint with optimiser states has about 1 MB
MAX_OPCODES = 300_000  # the same needs about 200,000
MAX_KEY = 1000  # characters


class PickleError(InputError):
    """The pickle is damaged or of a kind that is not read."""


@dataclass(frozen=True, eq=False, slots=True)
class Global:
    """The name of a class or function; what it names is never looked up."""

    name: str  # "module.attribute"


@dataclass(
    eq=False, repr=False, slots=True
)  # the generated repr would walk graphs that a file can make exponentially large
class Call:
    """A call or construction that was asked for and not done."""

    function: object
    arguments: object
    state: object = None  # what the pickle would have set on the result
    items: dict[Any, Any] | None = None  # what it would have put in, if the result was taken for a dict


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class PersistentId:
    """A reference to something outside the pickle: in torch files, a storage."""

    value: object


_MARK = object()


class _Machine:
    """The stack machine. `self.at` is the next byte."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.at, self.where = data, 0, where
        self.stack: list[Any] = []
        self.marks: list[int] = []  # positions of the marks in the stack
        self.memo: dict[int, Any] = {}
        self.references: list[PersistentId] = []

    def run(self) -> Any:
        data, table = self.data, _OPCODES
        for _ in range(MAX_OPCODES):
            if self.at >= len(data):
                raise self.error("ends in the middle")
            code = data[self.at]
            self.at += 1
            if code == _STOP:
                return self.pop()
            action = table.get(code)
            if action is None:
                raise self.error(f"has the unknown opcode {code:#04x}")
            action(self)
        raise self.error(f"needs more than {MAX_OPCODES} steps")

    def error(self, cause: str) -> PickleError:
        return PickleError(f"{self.where}: the pickle inside {cause} (byte {self.at})")

    # Reading ----------------------------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        if count < 0 or count > len(self.data) - self.at:
            raise self.error("ends in the middle")
        self.at += count
        return self.data[self.at - count : self.at]

    def take_number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def take_line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise self.error("ends in the middle")
        line, self.at = self.data[self.at : end], end + 1
        return line

    def text(self, raw: bytes, encoding: str = "utf-8") -> str:
        try:
            return raw.decode(encoding, "surrogateescape")
        except UnicodeDecodeError:
            raise self.error("has a text that is none") from None

    # Stack ------------------------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.error("takes more from the stack than is there")
        return self.stack.pop()

    def top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.error("takes more from the stack than is there")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            raise self.error("closes what was not opened")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise self.error("refers to something that is not there")
        self.push(self.memo[index])

    def put_items(self, pairs: list[Any]) -> None:
        if len(pairs) % 2:
            raise self.error("has a key without a value")
        target = self.top()
        if isinstance(target, Call):
            if target.items is None:
                target.items = {}
            target = target.items
        if isinstance(target, dict):
            for key, value in zip(pairs[::2], pairs[1::2]):
                # Only short plain keys are kept: hashing nested tuples can take exponential time, comparing long
                # texts again and again quadratic time.
                if (isinstance(key, str) and len(key) <= MAX_KEY) or (isinstance(key, int) and key.bit_length() < 64):
                    target[key] = value

    def extend(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, list):
            target.extend(items)  # anything else that can be appended to is inert, and so are its items

    def integer(self, raw: bytes) -> int:
        try:
            return int(raw.rstrip(b"L"))
        except ValueError:
            raise self.error("has a number that is none") from None

    def real(self, raw: bytes) -> float:
        try:
            return float(raw)
        except ValueError:
            raise self.error("has a number that is none") from None

    def name_global(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.error("names a class by something that is no text")
        if is_harmful(f"{module}.{name}"):
            raise self.error(f"would reach for {module[:50]}.{name[:50]} in other programs: the file is malicious")
        self.push(Global(f"{module}.{name}"))

    def call(self, function: Any, arguments: Any) -> None:
        if isinstance(function, Global) and function.name in DICTS and isinstance(arguments, tuple) and not arguments:
            self.push({})
        else:
            self.push(Call(function, arguments))

    def refer(self, value: object) -> None:
        self.references.append(PersistentId(value))
        self.push(self.references[-1])

    def set_state(self) -> None:
        state, target = self.pop(), self.top()
        if isinstance(target, Call):
            target.state = state


DICTS = {"collections.OrderedDict", "builtins.dict", "__builtin__.dict"}
_STOP = op.STOP[0]
_Action = Callable[[_Machine], object]


def _constant(value: object) -> _Action:
    return lambda m: m.push(value)


def _number(layout: str) -> _Action:
    return lambda m: m.push(m.take_number(layout))


def _raw(layout: str) -> _Action:
    return lambda m: m.push(m.take(m.take_number(layout)))


def _text(layout: str) -> _Action:
    return lambda m: m.push(m.text(m.take(m.take_number(layout))))


def _long(layout: str) -> _Action:
    return lambda m: m.push(int.from_bytes(m.take(m.take_number(layout)), "little", signed=True))


def _tuple(count: int) -> _Action:
    def action(m: _Machine) -> None:
        items = [m.pop() for _ in range(count)]
        m.push(tuple(reversed(items)))

    return action


def _int_line(m: _Machine) -> None:
    line = m.take_line()
    m.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else m.integer(line))


def _quoted_line(m: _Machine) -> None:
    line = m.take_line()
    if len(line) < 2 or line[0] != line[-1] or line[0] not in b"'\"":
        raise m.error("has a text without quotes")
    m.push(m.text(line[1:-1]))


def _pop(m: _Machine) -> None:
    if m.marks and len(m.stack) == m.marks[-1]:
        m.marks.pop()
    else:
        m.pop()


def _dict(m: _Machine) -> None:
    items = m.pop_to_mark()
    m.push({})
    m.put_items(items)


def _set_item(m: _Machine) -> None:
    value = m.pop()
    m.put_items([m.pop(), value])


def _append(m: _Machine) -> None:
    m.extend([m.pop()])


def _global_lines(m: _Machine) -> None:
    module = m.text(m.take_line())
    m.name_global(module, m.text(m.take_line()))


def _global_stack(m: _Machine) -> None:
    name = m.pop()
    m.name_global(m.pop(), name)


def _reduce(m: _Machine) -> None:
    arguments = m.pop()
    m.call(m.pop(), arguments)


def _new_with_keywords(m: _Machine) -> None:
    m.pop()
    _reduce(m)


def _instance_line(m: _Machine) -> None:
    arguments = tuple(m.pop_to_mark())
    _global_lines(m)
    m.call(m.pop(), arguments)


def _instance_stack(m: _Machine) -> None:
    items = m.pop_to_mark()
    if not items:
        raise m.error("makes an object of no class")
    m.call(items[0], tuple(items[1:]))


def _frame(m: _Machine) -> None:
    if m.take_number("<Q") > len(m.data) - m.at:
        raise m.error("ends in the middle")


_OPCODES: dict[int, _Action] = {
    opcode[0]: action
    for opcode, action in {
        op.PROTO: lambda m: m.take(1),
        op.FRAME: _frame,
        op.MARK: lambda m: m.marks.append(len(m.stack)),
        op.POP: _pop,
        op.POP_MARK: lambda m: m.pop_to_mark(),
        op.DUP: lambda m: m.push(m.top()),
        op.NONE: _constant(None),
        op.NEWTRUE: _constant(True),
        op.NEWFALSE: _constant(False),
        op.INT: _int_line,
        op.BININT: _number("<i"),
        op.BININT1: _number("<B"),
        op.BININT2: _number("<H"),
        op.LONG: lambda m: m.push(m.integer(m.take_line())),
        op.LONG1: _long("<B"),
        op.LONG4: _long("<i"),
        op.FLOAT: lambda m: m.push(m.real(m.take_line())),
        op.BINFLOAT: _number(">d"),
        op.STRING: _quoted_line,
        op.BINSTRING: _text("<i"),
        op.SHORT_BINSTRING: _text("<B"),
        op.UNICODE: lambda m: m.push(m.text(m.take_line(), "raw-unicode-escape")),
        op.BINUNICODE: _text("<I"),
        op.SHORT_BINUNICODE: _text("<B"),
        op.BINUNICODE8: _text("<Q"),
        op.BINBYTES: _raw("<I"),
        op.SHORT_BINBYTES: _raw("<B"),
        op.BINBYTES8: _raw("<Q"),
        op.BYTEARRAY8: _raw("<Q"),
        op.EMPTY_TUPLE: _constant(()),
        op.TUPLE: lambda m: m.push(tuple(m.pop_to_mark())),
        op.TUPLE1: _tuple(1),
        op.TUPLE2: _tuple(2),
        op.TUPLE3: _tuple(3),
        op.EMPTY_LIST: lambda m: m.push([]),
        op.LIST: lambda m: m.push(m.pop_to_mark()),
        op.APPEND: _append,
        op.APPENDS: lambda m: m.extend(m.pop_to_mark()),
        op.EMPTY_DICT: lambda m: m.push({}),
        op.DICT: _dict,
        op.SETITEM: _set_item,
        op.SETITEMS: lambda m: m.put_items(m.pop_to_mark()),
        op.EMPTY_SET: lambda m: m.push([]),  # sets are read as lists: their members need not be hashed
        op.ADDITEMS: lambda m: m.extend(m.pop_to_mark()),
        op.FROZENSET: lambda m: m.push(m.pop_to_mark()),
        op.PUT: lambda m: m.remember(m.integer(m.take_line())),
        op.BINPUT: lambda m: m.remember(m.take_number("<B")),
        op.LONG_BINPUT: lambda m: m.remember(m.take_number("<I")),
        op.MEMOIZE: lambda m: m.remember(len(m.memo)),
        op.GET: lambda m: m.recall(m.integer(m.take_line())),
        op.BINGET: lambda m: m.recall(m.take_number("<B")),
        op.LONG_BINGET: lambda m: m.recall(m.take_number("<I")),
        op.GLOBAL: _global_lines,
        op.STACK_GLOBAL: _global_stack,
        op.REDUCE: _reduce,
        op.NEWOBJ: _reduce,
        op.NEWOBJ_EX: _new_with_keywords,
        op.INST: _instance_line,
        op.OBJ: _instance_stack,
        op.BUILD: lambda m: m.set_state(),
        op.PERSID: lambda m: m.refer(m.text(m.take_line())),
        op.BINPERSID: lambda m: m.refer(m.pop()),
        op.READONLY_BUFFER: lambda m: None,
    }.items()
}


@dataclass(frozen=True, eq=False, repr=False)
class Pickled:
    """What a pickle holds."""

    value: Any
    references: list[PersistentId]  # all of them, in the order of appearance
    size: int  # bytes


def load_pickle(data: bytes, where: str) -> Pickled:
    """Read the pickle at the beginning of `data`. Raises `PickleError` naming `where`."""
    machine = _Machine(data[:MAX_BYTES], where)
    return Pickled(machine.run(), machine.references, machine.at)
