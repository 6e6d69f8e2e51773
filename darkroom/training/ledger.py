"""The ledger of a run: what stood at every place, and whether every picture of the folder was used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from darkroom.data.reader import Reader, Used
from darkroom.errors import InputError, cause
from darkroom.input_file import read_lines
from darkroom.whole_file import whole_file

__all__ = ["Ledger"]


class Ledger:
    """Writes `folder`/ledger.jsonl, one line a sample, going on behind sample number `first`.

    At the end of each epoch it writes a line that sums it up. Data that tell nothing of samples leave no file. A
    process that does not write keeps nothing.
    """

    def __init__(self, folder: Path, first: int, reader: Reader, *, writes: bool) -> None:
        self.path, self.reader, self.writes = folder / "ledger.jsonl", reader, writes
        self.lines: list[str] = []
        self.epoch, self.counts, self.passed_over = 0, Counter[str](), 0
        if writes and self.path.exists():
            self._go_on(first)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, used: Sequence[Used]) -> None:
        """Note the samples of a step."""
        if not self.writes:
            return
        for one in used:
            if one.epoch != self.epoch:
                self._sum_up()
                self.epoch = one.epoch
            self.counts[one.name] += 1
            self.passed_over += one.instead_of is not None
            line = {
                "number": one.number,
                "epoch": one.epoch,
                "name": one.name,
                "caption": one.caption,
                "size": str(one.size),
                "crop": one.crop,
                "flipped": one.flipped,
                "instead_of": one.instead_of,
            }
            self.lines.append(json.dumps({k: v for k, v in line.items() if v is not None}, ensure_ascii=False))

    def flush(self) -> None:
        """Write what was noted: a checkpoint follows, behind which nothing may be missing."""
        if not self.lines:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in self.lines)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {cause(error)}") from None
        self.lines = []

    def _sum_up(self) -> None:
        if not self.counts:
            return
        total, used = len(self.reader.among), len(self.counts)
        twice = sum(self.counts.values()) - used
        told = f"epoch {self.epoch}: {used} of {total} used, {twice} places filled by samples used before"
        unreadable = len(self.reader.unreadable)
        if unreadable or self.passed_over:
            told += f", {unreadable + self.passed_over} could not be read"
        self.lines.append(json.dumps({"epoch": self.epoch, "summary": told}))
        self.counts.clear()
        self.passed_over = 0

    def _go_on(self, first: int) -> None:
        """Drop lines of samples from number `first` on: they will be read again."""
        kept = []
        for text in read_lines(self.path):
            try:
                line = json.loads(text)
                number, epoch, name = line.get("number"), int(line["epoch"]), str(line.get("name"))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
                continue  # torn by a kill, or damaged on the disk
            if isinstance(number, int) and number >= first:
                break
            if number is None:
                self.counts.clear()
                self.passed_over = 0
            else:
                self.epoch = epoch
                self.counts[name] += 1
                self.passed_over += "instead_of" in line
            kept.append(text)
        with whole_file(self.path) as file:
            file.write("".join(f"{text}\n" for text in kept).encode())
