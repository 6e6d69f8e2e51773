"""What the network has answered a run, kept in a file, so that a run that was cut off goes on inside its picture.

Between the network's answers a run is a function of its plan alone. Begun again with the answers that were kept in
place of the network, it comes to the same place with the same bits, whatever its sampler, guidance or task; the first
question without an answer goes to the network. No part of a run knows of this.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

import torch
from torch import Tensor

from darkroom.engine.ask import Ask
from darkroom.engine.engine import Draw
from darkroom.engine.run import Desk, Picture
from darkroom.types import Step

__all__ = ["Journal", "journaled"]

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
MAX_HEAD = 1000  # bytes of what stands before a tensor


class Journal:
    """The file `path` of one run, written at most every `interval` seconds.

    `key` says what is drawn with what; a file of another key is begun anew. Each entry is a line of JSON (kind, shape,
    checksums of the question and of the answer) and the answer's bytes. What a crash left half-written is dropped.
    """

    def __init__(self, path: Path, key: str, interval: float = 2.0) -> None:
        self.path, self.key, self.interval = path, key, interval
        self._answers: Iterator[tuple[int, Tensor]] | None = None
        self._waiting = BytesIO()  # entries that are not in the file yet
        self._written = time.monotonic()
        self._without = False  # the disk took no more

    def begin(self) -> None:
        """Read what the file holds, before the run asks for anything."""
        try:
            answers, end = self._read()
            if end == 0:
                with self.path.open("wb") as file:
                    file.write(_line({"key": self.key}))
            else:
                with self.path.open("r+b") as file:
                    file.truncate(end)
        except OSError as error:
            answers = []
            self._give_up(error)
        self._answers = iter(answers)

    def answer(self, ask: Ask) -> Tensor | None:
        """What was answered to the next question; None where nothing was, or to another question."""
        assert self._answers is not None, "begun"
        asked, tensor = next(self._answers, (None, None))
        if tensor is None or asked != _checksum(ask):
            self._answers = iter(())
            return None
        return tensor.to(ask.x.device)

    def keep(self, ask: Ask, answer: Tensor) -> None:
        """Add what was answered."""
        if self._without:
            return
        content = answer.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        kind = str(answer.dtype).removeprefix("torch.")
        head: dict[str, object] = {"kind": kind, "shape": list(answer.shape), "asked": _checksum(ask)}
        self._waiting.write(_line({**head, "sum": _sum(head, content)}) + content)
        if time.monotonic() - self._written >= self.interval:
            self.write()

    def write(self) -> None:
        """Put into the file what waits for it."""
        try:
            with self.path.open("ab") as file:
                file.write(self._waiting.getvalue())
        except OSError as error:
            self._give_up(error)
        self._waiting = BytesIO()
        self._written = time.monotonic()

    def _give_up(self, error: OSError) -> None:
        """A full disk, say: the run goes on and is not kept."""
        _LOG.warning("a picture under way is not kept any more: %s", error.strerror or error)
        self._without = True

    def remove(self) -> None:
        """The picture is there: nothing needs to be repeated."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> tuple[list[tuple[int, Tensor]], int]:
        """(Question's checksum and answer of each entry, where the last sound one ends); 0 where nothing is sound."""
        answers: list[tuple[int, Tensor]] = []
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return answers, 0
        with file:
            if _head(file).get("key") != self.key:
                return answers, 0
            end = file.tell()
            while (entry := _entry(file)) is not None:
                answers.append(entry)
                end = file.tell()
        return answers, end


def journaled(draw: Draw, journal: Journal) -> Draw:
    """`draw` with `journal` between it and the network; the file is removed by who has kept the picture.

    Runs with features of their own (DeepCache, merged tokens) keep more than answers between calls and begin anew; so
    do those that are led to a target, whose gradients go through the calls.
    """

    def drawn(desk: Desk) -> Picture:
        journal.begin()
        return draw(_Journaled(desk, journal))

    return drawn


class _Journaled:
    def __init__(self, desk: Desk, journal: Journal) -> None:
        self.desk, self.journal = desk, journal

    def estimate(self, ask: Ask) -> Tensor:
        if ask.features is not None or torch.is_grad_enabled():
            return self.desk.estimate(ask)
        answer = self.journal.answer(ask)
        if answer is None:
            answer = self.desk.estimate(ask)
            self.journal.keep(ask, answer)
        return answer

    def report(self, step: Step, pass_number: int) -> None:
        self.desk.report(step, pass_number)

    def beside(self, work: Callable[[], T]) -> T:
        return self.desk.beside(work)


def _checksum(ask: Ask) -> int:
    """Of the latent and the noise level."""
    x = torch.cat([ask.x.detach().float().flatten(), ask.sigma.detach().float().reshape(1).to(ask.x.device)])
    return zlib.crc32(x.cpu().numpy().tobytes())


def _line(table: dict[str, object]) -> bytes:
    return json.dumps(table, separators=(",", ":")).encode() + b"\n"


def _sum(head: Mapping[str, object], content: bytes) -> int:
    """Of an answer and of what is said of it."""
    return zlib.crc32(content, zlib.crc32(_line({key: head[key] for key in ("kind", "shape", "asked")})))


def _head(file: BinaryIO) -> dict[str, object]:
    try:
        head = json.loads(file.readline(MAX_HEAD))
    except (ValueError, RecursionError):
        return {}
    return head if isinstance(head, dict) else {}


def _entry(file: BinaryIO) -> tuple[int, Tensor] | None:
    """The next entry; None where it is not whole."""
    head = _head(file)
    kind, shape, asked = KINDS.get(str(head.get("kind"))), head.get("shape"), head.get("asked")
    if kind is None or not isinstance(shape, list) or not isinstance(asked, int):
        return None
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        return None
    length = math.prod(shape) * kind.itemsize
    if length > os.fstat(file.fileno()).st_size:
        return None
    content = file.read(length)
    if len(content) != length or _sum(head, content) != head.get("sum"):
        return None
    return asked, torch.frombuffer(bytearray(content), dtype=kind).reshape(shape)
