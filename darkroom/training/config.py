"""The settings of the training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from darkroom.errors import insist

__all__ = ["LoopConfig"]


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast, how exactly."""

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 0  # steps of linear rise
    decay: Literal["constant", "cosine"] = "constant"  # afterwards
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"  # "muon": for matrices; AdamW for the rest
    accumulation: int = 1  # batches a step
    clip: float | None = 1.0  # norm of all gradients of an optimiser
    ema_decay: float = 0.9999
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # bf16 where the device is fast in it; a run keeps its own
    device: str = "cpu"
    seed: int = 0
    log_every: int = 20
    sample_every: int = 500
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "log_every", "sample_every", "save_every"):
            insist(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("warmup", "seed"):
            insist(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        insist(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "a number above 0")
        insist(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "a number from 0 up")
        insist(all(0 <= b < 1 for b in self.betas), "betas", list(self.betas), "two numbers from 0 to below 1")
        insist(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "a number from 0 to below 1")
        insist(self.clip is None or self.clip > 0, "clip", self.clip, "a number above 0")

    def rate(self, step: int) -> float:
        """Learning rate of `step` (0-based)."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.decay == "constant":
            return self.learning_rate * rise
        done = max(0.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
