"""What a run says of itself: a progress bar, lines of JSON, and TensorBoard where it is installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from darkroom.errors import InputError, cause
from darkroom.input_file import read_lines
from darkroom.training.config import LoopConfig
from darkroom.whole_file import whole_file

__all__ = ["WAITING", "Log", "Tally"]

WAITING = "waiting for data"  # share of the time since the last line

BOARD = "tensorboard"


@dataclass
class Tally:
    """Numbers of the steps since the last line. Part of the checkpoint: a line may begin before it and end after."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    since: float = 0.0  # seconds of training at the last line
    waited: float = 0.0  # seconds of them for data

    def add(self, numbers: Mapping[str, float], waited: float) -> None:
        self.steps += 1
        self.waited += waited
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Of each number over the steps that had it."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}

    def clear(self, seconds: float) -> None:
        self.sums, self.counts, self.steps, self.since, self.waited = {}, {}, 0, seconds, 0.0


class Log:
    """Writes to `folder`/log.jsonl, going on behind `step`: later lines of a killed run will be written again."""

    def __init__(self, folder: Path, step: int, config: LoopConfig, tally: Tally, *, writes: bool = True) -> None:
        self.config, self.tally, self.writes = config, tally, writes
        self.path = folder / "log.jsonl"
        if writes and self.path.exists():
            kept = [line for line in read_lines(self.path) if _within(line, step)]
            with whole_file(self.path) as file:
                file.write("".join(line + "\n" for line in kept).encode())
        self.bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
        )
        self.task = self.bar.add_task("", total=config.steps, completed=step, text="")
        self.board: Any = None
        if not writes:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / BOARD), purge_step=step)
        except ImportError:
            pass
        except OSError as error:
            raise InputError(f"{folder / BOARD} cannot be written: {cause(error)}") from None

    def __enter__(self) -> Log:
        if self.writes:
            self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.writes:
            self.bar.stop()
        try:
            self._on_board(lambda board: board.close())
        except InputError:
            if kind is None:  # otherwise what ends the run is said already
                raise

    def step(self, step: int, numbers: Mapping[str, float], lr: float, seconds: float, waited: float) -> None:
        """Count `numbers` of step `step` (1-based), which ended `seconds` into the training, `waited` of them for its
        data: reading it too, where no worker processes do."""
        if not self.writes:
            return
        self.tally.add(numbers, waited)
        means = self.tally.means()
        pictures = self.tally.steps * self.config.step_size
        passed = max(seconds - self.tally.since, 1e-9)
        speed = pictures / passed
        loss = next((v for k, v in means.items() if k.startswith("loss/")), 0.0)
        self.bar.update(self.task, completed=step, text=f"loss {loss:.4f}, {speed:.3g} images/s")
        if step % self.config.log_every and step != self.config.steps:
            return
        line = {
            "step": step,
            "seconds": round(seconds, 1),
            "lr": lr,
            **{k: float(f"{v:.5g}") for k, v in means.items()},
            "images_per_second": float(f"{speed:.3g}"),
            WAITING: float(f"{self.tally.waited / passed:.2g}"),
        }
        if torch.device(self.config.device).type == "cuda":
            line["memory/GiB"] = round(torch.cuda.max_memory_allocated(self.config.device) / 2**30, 2)
        self._write(line)
        self.tally.clear(seconds)

    def measured(self, step: int, numbers: Mapping[str, float], seconds: float) -> None:
        """Write what was measured at `step` as a line of its own."""
        if self.writes:
            rounded = {k: float(f"{v:.5g}") for k, v in numbers.items()}
            self._write({"step": step, "seconds": round(seconds, 1), **rounded})

    def image(self, step: int, grid: np.ndarray) -> None:
        """Show a picture (H, W, 3) uint8 of step `step` in TensorBoard."""
        self._on_board(lambda board: board.add_image("samples", grid, step, dataformats="HWC"))

    def _on_board(self, write: Callable[[Any], None]) -> None:
        """`write` with TensorBoard's writer where there is one, whose thread may have failed at any time before."""
        if self.board is None:
            return
        try:
            write(self.board)
        except OSError as error:
            self.board = None
            raise InputError(f"{self.path.parent / BOARD} cannot be written: {cause(error)}") from None

    def _write(self, line: Mapping[str, float]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {cause(error)}") from None
        for name, value in line.items():
            self._on_board(lambda board, name=name, value=value: board.add_scalar(name, value, line["step"]))


def _within(line: str, step: int) -> bool:
    """Whether a line was written up to `step`; a line that a kill tore was not."""
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
