"""`python -m benchmarks step-sd1-512 decode-512 --rounds 5`; without names, all of them."""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from benchmarks.measure import count_flop, error, in_turns, machine, peak_speed
from benchmarks.peers import openvino
from benchmarks.report import BASE, Row, table
from benchmarks.works import WORKS, Ready, Work
from darkroom.errors import InputError
from darkroom.nn.layers import allow_minimal_filtering

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("work", nargs="*", help=f"of: {', '.join(WORKS)}")
    parser.add_argument("--rounds", type=int, default=5, help="measured turns of each contender")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compiled", action="store_true", help="the peer compiled, too (minutes more)")
    a = parser.parse_args()
    if a.rounds < 1:
        parser.error(f"--rounds {a.rounds}: accepted are whole numbers from 1")
    try:
        works = {name: WORKS[name] for name in a.work or WORKS}
    except InputError as cause:
        parser.error(str(cause))
    device, dtype = torch.device(a.device), DTYPES[a.dtype]
    peak = peak_speed(dtype, device)
    rows = []
    for name, work in works.items():
        print(f"{name} …", file=sys.stderr)
        rows.append(measure(work, dtype, device, a.rounds, compiled=a.compiled))
    print(f"{machine(device)}; {a.dtype}, {a.rounds} rounds; peak {peak / 1e12:.2f} TFLOP/s\n\n{table(rows, peak)}")


def measure(work: Work, dtype: torch.dtype, device: torch.device, rounds: int, *, compiled: bool) -> Row:
    """One piece of work by all contenders. The exact answer is the peer's, from the same weights in float32."""
    ready = work.prepare(dtype, device)  # as a checkpoint is loaded: tensors of inference mode keep no versions
    with torch.inference_mode():
        exact, flop = reference(ready)
        runs = contenders(ready, dtype, compiled=compiled)
        errors = {name: error(run(), exact) for name, run in runs.items()}
        return Row(work.title, flop, in_turns(runs, rounds), errors)


def reference(ready: Ready) -> tuple[Tensor, int]:
    """The exact answer and the operations that it takes; the copy in float32 is gone afterwards."""
    peer = copy.deepcopy(ready.networks.peer).float()
    exact = ready.peer(peer, *ready.inputs)
    return exact, count_flop(lambda: ready.peer(peer, *ready.inputs))


def contenders(ready: Ready, dtype: torch.dtype, *, compiled: bool) -> dict[str, Callable[[], Tensor]]:
    ours, peer, inputs = ready.networks.ours, ready.networks.peer, ready.inputs_in(dtype)
    # As `tasks.model` loads it; a copy, so that the peer keeps its own layout.
    ours = copy.deepcopy(ours).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if dtype == torch.float32:
        allow_minimal_filtering(ours)
    found: dict[str, Callable[[], Tensor]] = {
        "darkroom": lambda: ready.ours(ours, *inputs),
        BASE: lambda: ready.peer(peer, *inputs),
    }
    if compiled:
        fast = torch.compile(copy.deepcopy(peer))
        found["diffusers compiled"] = lambda: ready.peer(fast, *inputs)
    if find_spec("openvino") is not None and inputs[0].device.type == "cpu":
        found["OpenVINO"] = openvino(ready, dtype)
    return found


if __name__ == "__main__":
    main()
