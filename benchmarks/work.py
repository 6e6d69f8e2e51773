"""What a piece of work is: settings in, a contest out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Turn

__all__ = ["BASE", "Contest", "Settings", "Work"]

BASE = "diffusers"  # the peer that ratios are relative to


@dataclass(frozen=True)
class Settings:
    """How work is to be done. `folder` is the work's own, empty, and removed when it is over."""

    dtype: torch.dtype
    device: torch.device
    folder: Path
    compiled: bool = False  # the peer compiled, too


@dataclass(frozen=True)
class Contest:
    """The contenders, ready to run. Answers are compared with `exact`, the peer's in float32, where there is one."""

    runs: Mapping[str, Callable[[], Turn]]
    exact: Tensor | None = None
    flop: int | None = None  # operations of a run, where they can be counted


@dataclass(frozen=True)
class Work:
    """`prepare` is not measured."""

    title: str
    prepare: Callable[[Settings], Contest]
