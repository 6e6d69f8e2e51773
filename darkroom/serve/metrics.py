"""Numbers for Prometheus, written in its text format: queue, pictures, steps, calls of the network, errors, memory."""

from __future__ import annotations

import bisect
import ctypes
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["Histogram", "Metrics", "give_back_memory", "resident_bytes"]

TIMES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Histogram:
    """How often values up to each of `bounds` were seen."""

    def __init__(self, name: str, help: str, bounds: Sequence[float]) -> None:
        self.name, self.help, self.bounds = name, help, bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def see(self, value: float) -> None:
        with self._lock:
            self._counts[bisect.bisect_left(self.bounds, value)] += 1
            self._sum += value

    def seen(self) -> tuple[int, float]:
        """(How many values were seen, their sum)."""
        with self._lock:
            return sum(self._counts), self._sum

    def lines(self) -> Iterator[str]:
        with self._lock:
            counts, total = list(self._counts), self._sum
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} histogram"
        so_far = 0
        for bound, count in zip((*self.bounds, float("inf")), counts):
            so_far += count
            yield f'{self.name}_bucket{{le="{"+Inf" if bound == float("inf") else f"{bound:g}"}"}} {so_far}'
        yield f"{self.name}_sum {total:g}"
        yield f"{self.name}_count {so_far}"


class Metrics:
    """What one server counts. May be called from any thread."""

    def __init__(self) -> None:
        self.queue_time = Histogram("darkroom_request_queue_time_seconds", "From submission to the begin.", TIMES)
        self.latency = Histogram("darkroom_e2e_request_latency_seconds", "From submission to the last picture.", TIMES)
        self.picture_time = Histogram("darkroom_picture_seconds", "From a picture's begin to its file.", TIMES)
        self.call_time = Histogram("darkroom_call_seconds", "Calls of the network.", TIMES)
        self.call_rows = Histogram("darkroom_call_rows", "Rows of a call of the network.", ROWS)
        self._ended: Counter[str] = Counter()

    def call(self, rows: int, seconds: float) -> None:
        """The network was called."""
        self.call_rows.see(rows)
        self.call_time.see(seconds)

    def end(self, state: str, code: str | None) -> None:
        """A job is over."""
        self._ended[state if code is None else code] += 1

    def text(self, running: int, waiting: int, models: int) -> str:
        """All of it, with what is true at this moment."""
        lines: list[str] = []
        for name, help, value in (
            ("darkroom_num_requests_running", "Pictures under way.", running),
            ("darkroom_num_requests_waiting", "Jobs that wait.", waiting),
            ("darkroom_models_loaded", "Models in memory.", models),
            ("process_resident_memory_bytes", "What the process holds.", resident_bytes()),
        ):
            lines += [f"# HELP {name} {help}", f"# TYPE {name} gauge", f"{name} {value}"]
        lines += ["# HELP darkroom_requests_total Jobs that are over.", "# TYPE darkroom_requests_total counter"]
        lines += [f'darkroom_requests_total{{result="{r}"}} {n}' for r, n in sorted(self._ended.items())]
        for histogram in (self.queue_time, self.latency, self.picture_time, self.call_time, self.call_rows):
            lines += histogram.lines()
        return "\n".join(lines) + "\n"


def give_back_memory() -> None:
    """Return to the system what the allocator of C keeps of freed memory, which grows with unlike sizes and threads."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """The memory that the process holds; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
