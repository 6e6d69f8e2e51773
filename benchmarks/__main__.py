"""`python -m benchmarks step-sd1-512 decode-512 --rounds 5`; without names, all of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.measure import error, in_turns, machine, peak_speed
from benchmarks.report import HEAD, Row, lines
from benchmarks.work import Settings, Work
from benchmarks.works import WORKS
from darkroom.errors import InputError
from darkroom.nn.device import find_device
from darkroom.nn.precision import fast_half

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def main() -> None:
    listed = "\n".join(f"  {name:17} {work.title}" for name, work in WORKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="This project beside its peers: the same random weights, the same work, in turns.",
        epilog=f"works:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", nargs="*", help="of the works below; default: all of them")
    parser.add_argument("--rounds", type=int, default=5, help="measured turns of each contender")
    parser.add_argument("--dtype", choices=["auto", *DTYPES], default="auto", help="auto: what is fast on the device")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compiled", action="store_true", help="the peer compiled, too (minutes more)")
    a = parser.parse_args()
    if a.rounds < 1:
        parser.error(f"--rounds {a.rounds}: accepted are whole numbers from 1")
    try:
        works = {name: WORKS[name] for name in a.work or WORKS}
        device = find_device(a.device)
    except InputError as cause:
        parser.error(str(cause))
    dtype = fast_half(device) or torch.float32 if a.dtype == "auto" else DTYPES[a.dtype]
    peak = peak_speed(dtype, device)
    spelled = next(name for name, kind in DTYPES.items() if kind == dtype)
    print(f"{machine(device)}; {spelled}, {a.rounds} rounds; peak {peak / 1e12:.2f} TFLOP/s\n\n{HEAD}", flush=True)
    left_out = False
    for name, work in works.items():
        print(f"{name} …", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = measure(work, Settings(dtype, device, Path(folder), a.compiled), a.rounds)
            except InputError as cause:
                print(f"{name} is left out: {cause}", file=sys.stderr)
                left_out = True
                continue
        print(lines(row, peak), flush=True)
    sys.exit(2 if left_out else 0)


def measure(work: Work, settings: Settings, rounds: int) -> Row:
    """One piece of work by all contenders."""
    contest = work.prepare(settings)
    figures, answers = in_turns(contest.runs, rounds)
    exact = contest.exact
    errors = {} if exact is None else {name: error(found, exact) for name, found in answers.items()}
    return Row(work.title, contest.flop, figures, errors)


if __name__ == "__main__":
    main()
