"""Time in turns, memory, arithmetic and the speed that the hardware reaches."""

from __future__ import annotations

import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Figures", "Turn", "counted", "error", "in_turns", "machine", "peak_speed", "timed"]

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Turn:
    """One run of one contender."""

    seconds: float
    peak: int | None  # bytes beyond what was resident when it began, at the most; None: not known here
    parts: Mapping[str, float] = field(default_factory=dict)  # seconds of what the run consists of
    answer: Tensor | None = None  # what can be compared with other contenders'


@dataclass(frozen=True)
class Figures:
    """What one contender took."""

    seconds: tuple[float, ...]  # one a round
    peak: int | None  # the most of any turn, the unmeasured first one included: some keep what they took then
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def timed(run: Callable[[], Tensor | None]) -> Callable[[], Turn]:
    """`run` with a watch, in this process."""

    def turn() -> Turn:
        gc.collect()
        before = _reset_peak()
        start = time.perf_counter()
        answer = run()
        _settle()
        seconds = time.perf_counter() - start
        after = _peak()
        return Turn(seconds, None if before is None or after is None else after - before, answer=answer)

    return turn


def in_turns(runs: Mapping[str, Callable[[], Turn]], rounds: int) -> tuple[dict[str, Figures], dict[str, Tensor]]:
    """Each contender once unmeasured, then all of them one after another, `rounds` times; and the first answers.

    What disturbs the machine for a while then disturbs all of them, and every round gives one ratio. The first goes
    first in one round and last in the next.
    """
    turns = {name: [run()] for name, run in runs.items()}
    answers = {name: first.answer for name, (first,) in turns.items() if first.answer is not None}
    for found in turns.values():
        found[0] = replace(found[0], answer=None)
    for index in range(rounds):
        for name in list(runs)[:: 1 if index % 2 == 0 else -1]:
            turns[name].append(replace(runs[name](), answer=None))
    return {name: _figures(found) for name, found in turns.items()}, answers


def _figures(turns: Sequence[Turn]) -> Figures:
    measured = turns[1:]
    peaks = [t.peak for t in turns if t.peak is not None]
    parts = {name: tuple(t.parts[name] for t in measured) for name in measured[0].parts}
    return Figures(tuple(t.seconds for t in measured), max(peaks, default=None), parts)


def error(found: Tensor, exact: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((found.double() - exact.double()).abs().max() / exact.double().abs().max())


def counted(run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """The answer, and the operations of matrix products, convolutions and attention: two for each multiplication and
    addition."""
    counter = FlopCounterMode(display=False)
    with counter:
        answer = run()
    return answer, counter.get_total_flops()


def peak_speed(dtype: torch.dtype, device: torch.device, seconds: float = 2.0) -> float:
    """FLOP/s of the fastest square matrix product found: what the hardware gives to PyTorch."""
    best = 0.0
    for side in (512, 1024, 2048):
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        torch.mm(a, b)
        _settle()
        deadline = time.perf_counter() + seconds / 3
        while time.perf_counter() < deadline:
            start = time.perf_counter()
            torch.mm(a, b)
            _settle()
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def machine(device: torch.device) -> str:
    """The machine in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    names = [line.partition(":")[2].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    features = torch.backends.cpu.get_cpu_capability()
    return f"{name} ({features}), {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _reset_peak() -> int | None:
    """Forget the peak of memory; what is in use now."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else what the last contender freed still counts as in use
        CLEAR.write_text("5")
    except (OSError, AttributeError):
        return None  # not Linux with glibc, or not allowed
    return _status("VmRSS")


def _peak() -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")


def _status(field: str) -> int | None:
    """Bytes."""
    found = [line for line in _lines(STATUS) if line.startswith(f"{field}:")]
    return int(found[0].split()[1]) * 1024 if found else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
