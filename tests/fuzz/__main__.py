"""`python -m tests.fuzz --minutes 30 [--reader NAME …] [--first SEED]`: as many cases as the time allows, all readers.

Prints a line for each reader and the seed of the first case of every fault; status 1 if there is any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

# The doubles that several tests share, where pytest finds them by `pythonpath` in pyproject.toml.
sys.path[:0] = [str(Path(__file__).parents[1] / room) for room in ("checkpoints", "systems", "training")]

from tests.fuzz.readers import READERS  # noqa: E402
from tests.fuzz.run import try_reader  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="for all readers together")
    parser.add_argument("--cases", type=int, help="of each reader, in place of a time")
    parser.add_argument("--reader", action="append", choices=[r.name for r in READERS])
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--traces", action="store_true", help="where each fault arose, in full")
    options = parser.parse_args()
    chosen = [r for r in READERS if not options.reader or r.name in options.reader]
    faults = cases = 0
    for reader in chosen:
        end = time.monotonic() + 60 * options.minutes / len(chosen)
        with tempfile.TemporaryDirectory() as folder:
            report = try_reader(
                reader,
                Path(folder),
                options.first,
                lambda n, end=end: n >= options.cases if options.cases else time.monotonic() > end,
            )
        cases, faults = cases + report.cases, faults + len(report.faults)
        print(
            f"{reader.name:20} {report.cases:8} cases, {report.taken:7} taken, {report.refused:7} refused, "
            f"{len(report.faults)} faults, {report.seconds:.0f} s",
            flush=True,
        )
        for fault, seed in report.faults.items():
            print(f"    seed {seed}: {fault}", flush=True)
            if options.traces:
                print(report.traces[fault], flush=True)
    print(f"{cases} cases, {faults} distinct faults")
    return int(faults > 0)


if __name__ == "__main__":
    raise SystemExit(main())
