"""The trial: a reader and many damaged cases. An answer or one `InputError`, soon, and nothing else."""

from __future__ import annotations

import random
import resource
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.errors import InputError

__all__ = ["Case", "Reader", "Report", "try_reader"]

Case = Callable[[random.Random], None]

SLOWEST = 10.0  # seconds of processor time for one case of some kilobytes: anything that slow hangs
LARGEST = 512  # MiB by which one case may raise the most memory that the process ever held


@dataclass(frozen=True)
class Reader:
    """`prepare` makes, once and in a folder of its own, a function that makes a damaged case from a random generator
    and reads it; `few` is how many of them the suite tries."""

    name: str
    prepare: Callable[[Path], Case]
    few: int = 100


@dataclass
class Report:
    """What came of it. `faults`: by the place where each arose, the seed of its first case."""

    cases: int = 0
    taken: int = 0
    refused: int = 0
    seconds: float = 0.0  # of processor time
    faults: dict[str, int] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)

    def fault(self, name: str, seed: int, trace: str = "") -> None:
        """Note the first case of each."""
        if name not in self.faults:
            self.faults[name], self.traces[name] = seed, trace


def try_reader(reader: Reader, folder: Path, first: int, until: Callable[[int], bool]) -> Report:
    """Cases of the seeds from `first` on until `until` says of a count that it is enough."""
    case, report = reader.prepare(folder), Report()
    started = time.process_time()
    while not until(report.cases):
        seed = first + report.cases
        report.cases += 1
        began, peak = time.process_time(), _peak()
        try:
            case(random.Random(f"{reader.name} {seed}"))
            report.taken += 1
        except InputError as error:
            report.refused += 1
            if not str(error).isprintable():
                report.fault(f"a message that steers a terminal: {error!r:.120}", seed)
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            report.fault(_signature(error), seed, traceback.format_exc())
        if time.process_time() - began > SLOWEST:
            report.fault(f"over {SLOWEST:g} seconds", seed)
        if _peak() - peak > LARGEST:
            report.fault(f"over {LARGEST} MiB", seed)
        if left := next(folder.rglob(".darkroom-*"), None):
            report.fault(f"{left.name} is left", seed)
            left.unlink()
    report.seconds = time.process_time() - started
    return report


def _peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _signature(error: BaseException) -> str:
    """The kind of an error and the last place of this project that it passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{Path('darkroom')}/" in f.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside"
    return f"{type(error).__name__} at {where}"
