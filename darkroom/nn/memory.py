"""How much memory a device has left, and what is said where it runs out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from darkroom.errors import InputError

__all__ = ["available_memory", "enough_memory", "is_out_of_memory", "out_of_memory"]

# (limit, use) of a control group's memory in bytes, version 2 and version 1.
GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def available_memory(device: torch.device) -> int:
    """Bytes that a run on `device` may still take."""
    if device.type == "cuda":
        # What PyTorch keeps for later counts as used to the device.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return min((_free_on_machine(), *_free_in_groups(Path("/sys/fs/cgroup"))))


def _free_on_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _free_in_groups(root: Path) -> Iterator[int]:
    """What the limits of a container leave, where there are any."""
    for limit, use in GROUPS:
        try:
            left = int((root / limit).read_text()) - int((root / use).read_text())
            statistics = (root / limit).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):  # no such file, or "max"
            continue
        # What is kept of files counts as used, mapped weights too, yet makes way when memory is needed.
        kept = (
            int(n) for name, n in zip(statistics[::2], statistics[1::2]) if name in ("active_file", "inactive_file")
        )
        yield max(0, left + sum(kept))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a device, or the machine, has no more memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def out_of_memory(work: str) -> InputError:
    """What is said where `work` runs out of memory."""
    return InputError(
        f"{work} takes more memory than the device has left; try --memory low, a smaller size or fewer at once"
    )


@contextmanager
def enough_memory(work: str) -> Iterator[None]:
    """Where the device runs out of memory during `work`, `InputError` with what to try."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise out_of_memory(work) from None
        raise
