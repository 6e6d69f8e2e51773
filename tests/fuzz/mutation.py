"""Damage, by accident and on purpose: bytes and JSON that are nearly right."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Sequence
from typing import Any

__all__ = ["HOSTILE", "NASTY", "json_bytes", "mutate_bytes", "mutate_json", "mutate_text"]

EXTREMES = [b"\0" * 4, b"\xff" * 4, b"\xff" * 8, struct.pack("<Q", 1 << 40), struct.pack("<i", -1), b"\x7f\xff\xff\xff"]
NASTY = ("", "\0", "\x1b[2J", "\u202e", "\ud800", "a" * 5000, "../..", "~nobody/x", "1e999", "nan", "9" * 5000, "é日")
HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, -(10**30), 0.5, 1e308, float("inf"), float("nan")),
    *(*NASTY, [], {}, [[]], [None], {"": {}}, [1] * 2000, {"kind": ["x"]}, {"kind": "x"}),
)


def mutate_bytes(content: bytes, rng: random.Random, words: Sequence[bytes] = ()) -> bytes:
    """`content` with one to four places changed; `words` are inserted whole."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, kind = rng.randrange(len(data) + 1), rng.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 2:
            data[at : at + rng.randrange(1, 9)] = rng.choice(EXTREMES)
        elif kind == 3 and words:
            data[at:at] = rng.choice(words)
        elif kind == 4:
            other = rng.randrange(len(data) + 1)
            data[at:at] = data[other : other + rng.randrange(1, 64)]
        elif kind == 5 and data:
            data[at % len(data)] = rng.choice(b"0123456789")  # keeps text legible and makes it wrong
        elif rng.random() < 0.3:
            del data[at:]
        else:
            del data[at : at + rng.randrange(1, 16)]
    return bytes(data)


def mutate_text(text: str, rng: random.Random, words: Sequence[str] = ()) -> str:
    """`text` with pieces cut, doubled, swapped for others and for what is nasty."""
    for _ in range(rng.choice((1, 2, 4, 8))):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.randrange(0, 12))
        piece = rng.choice((rng.choice(NASTY), text[at:end] * 2, *([rng.choice(words)] if words else []), ""))
        text = text[:at] + piece + text[end if rng.random() < 0.5 else at :]
    return text


def mutate_json(value: Any, rng: random.Random) -> Any:
    """`value` with one or two of its parts, at any depth, gone, doubled or replaced by something hostile."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = _place(value, rng)
        if holder is None:
            return copy.deepcopy(rng.choice(HOSTILE))
        kind = rng.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(NASTY)] = holder.pop(key)
        elif kind == 2 and isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
            holder[key] = rng.choice((-holder[key], holder[key] * 1000, str(holder[key]), 0.5, 0))
        else:
            holder[key] = copy.deepcopy(rng.choice(HOSTILE))
    return value


def json_bytes(table: object, rng: random.Random) -> bytes:
    """`table` changed in what it says, or its text in how it is written."""
    if rng.random() < 0.7:
        return json.dumps(mutate_json(table, rng)).encode()
    return mutate_bytes(json.dumps(table).encode(), rng, [b"[" * 2000, b"9" * 5000, b'"\xff"', b"NaN", b"1e999", b"\0"])


def _place(value: Any, rng: random.Random) -> tuple[Any, Any]:
    """A part of `value`, by what holds it and its key there."""
    holder, key, inside = None, None, value
    while isinstance(inside, (dict, list)) and inside and (holder is None or rng.random() < 0.7):
        holder = inside
        key = rng.choice(list(inside)) if isinstance(inside, dict) else rng.randrange(len(inside))
        inside = inside[key]
    return holder, key
