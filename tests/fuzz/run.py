"""The trial: a reader and many damaged cases. An answer or one `InputError`, soon, and nothing else."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from darkroom.errors import InputError

__all__ = ["Case", "Reader", "Report", "try_reader"]

Case = Callable[[random.Random], None]

SLOWEST = 10.0  # seconds of processor time for one case of some kilobytes: anything that slow hangs


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
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)


def try_reader(reader: Reader, folder: Path, first: int, until: Callable[[int], bool]) -> Report:
    """Cases of the seeds from `first` on until `until` says of a count that it is enough."""
    case, report = reader.prepare(folder), Report()
    started = time.monotonic()
    while not until(report.cases):
        seed = first + report.cases
        report.cases += 1
        began = time.process_time()
        try:
            case(random.Random(f"{reader.name} {seed}"))
            report.taken += 1
        except InputError as error:
            report.refused += 1
            if not str(error).isprintable():
                report.faults.setdefault(f"a message that steers a terminal: {error!r:.120}", seed)
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            report.faults.setdefault(_signature(error), seed)
        if time.process_time() - began > SLOWEST:
            report.faults.setdefault(f"over {SLOWEST:g} seconds", seed)
    report.seconds = time.monotonic() - started
    return report


def _signature(error: BaseException) -> str:
    """The kind of an error and the last place of this project that it passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{Path('darkroom')}/" in f.filename]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside"
    return f"{type(error).__name__} at {where}"
