"""`python -m tests.fuzz --minutes 30 [--reader NAME …] [--first SEED]`: as many cases as the time allows, all readers.
`python -m tests.fuzz --faults [--count 20]`: so many cases of every fault of the machine, each on a tiny training.

Prints a line for each reader or fault, and the seed of the first case of every failure; status 1 if there is any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

# The doubles that several tests share, where pytest finds them by `pythonpath` in pyproject.toml.
sys.path[:0] = [str(Path(__file__).parents[1] / room) for room in ("checkpoints", "serve", "systems", "training")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="for all readers together")
    parser.add_argument("--cases", type=int, help="of each reader, in place of a time")
    parser.add_argument("--reader", action="append", help="by name, once or more; all when not given")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--traces", action="store_true", help="where each failure arose, in full")
    parser.add_argument("--faults", action="store_true", help="kills, full disks, flipped bits and the like")
    parser.add_argument("--count", type=int, default=20, help="of the cases of each fault")
    options = parser.parse_args()
    return _faults(options) if options.faults else _readers(parser, options)


def _readers(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    from tests.fuzz.readers import READERS
    from tests.fuzz.run import try_reader

    chosen = [r for r in READERS if not options.reader or r.name in options.reader]
    if unknown := set(options.reader or ()) - {r.name for r in READERS}:
        parser.error(f"unknown reader {min(unknown)!r}; known are: {', '.join(r.name for r in READERS)}")
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


def _faults(options: argparse.Namespace) -> int:
    from tests.fuzz.faults import FAULTS, try_fault, unbroken_run

    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        unbroken = unbroken_run(Path(folder))
        for name in FAULTS:
            began = time.monotonic()
            seeds = range(options.first, options.first + options.count)
            found = try_fault(name, unbroken, Path(folder), iter(seeds))
            failed += len(found)
            print(
                f"{name:20} {options.count:4} cases, {len(found)} failed, {time.monotonic() - began:.0f} s", flush=True
            )
            for line in found:
                print(f"    {line}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
