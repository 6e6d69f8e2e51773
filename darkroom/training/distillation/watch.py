"""What is watched in a game of two networks, and when it is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from darkroom.errors import require

__all__ = ["VARIETY", "Watch", "WatchConfig", "variety"]

VARIETY = "variety"  # the name of that number in a run's log


@dataclass(frozen=True)
class WatchConfig:
    """Bounds of running means over about `window` steps; beyond one of them a run has collapsed."""

    window: int = 50
    variety: float = 0.2  # least spread of the student's pictures within a batch, over that of true ones
    logit: float = 50.0  # largest mean logit, either way
    r1: float = 1e7  # largest penalty, before its factor
    distillation: float = 10.0  # largest distillation loss, over its mean of the first `window` steps

    def __post_init__(self) -> None:
        require(self.window >= 1, "window", self.window, "at least 1")
        require(0 <= self.variety < 1, "variety", self.variety, "a number from 0 to below 1")
        for name in ("logit", "r1", "distillation"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")


class Watch(nn.Module):
    """Running means of the watched numbers, saved with the run.

    `step` is told each step's numbers by name; `good_step` is the last one at which every running mean was well within
    its bound.
    """

    def __init__(self, config: WatchConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        # name -> (bound, whether values must stay above it)
        self.bounds = {
            VARIETY: (c.variety, True),
            "logits/real": (c.logit, False),
            "logits/fake": (c.logit, False),
            "r1": (c.r1, False),
            "distillation": (c.distillation, False),
        }
        for name in ("means", "counts", "first"):
            self.register_buffer(name, torch.zeros(len(self.bounds)))
        self.register_buffer("good_step", torch.zeros((), dtype=torch.long))

    def step(self, step: int, numbers: Mapping[str, float]) -> str | None:
        """Take in the numbers of `step` (1-based). Why the run has collapsed, in words; None while it has not."""
        trouble, sound = None, True
        for i, (name, (bound, above)) in enumerate(self.bounds.items()):
            if name not in numbers:
                continue
            value = abs(numbers[name])
            self.counts[i] += 1  # type: ignore[index]
            count = int(self.counts[i])  # type: ignore[index]
            share = max(1 / count, 1 / self.config.window)
            self.means[i] += share * (value - self.means[i])  # type: ignore[index]
            if count <= self.config.window:
                self.first[i] = self.means[i]  # type: ignore[index]
                continue  # too early to tell
            mean = float(self.means[i])  # type: ignore[index]
            if name == "distillation":
                mean /= max(float(self.first[i]), 1e-12)  # type: ignore[index]
            if (mean < bound) if above else (mean > bound):
                trouble = f"{name} is {mean:.3g}, {'at least' if above else 'at most'} {bound:.3g} is sound"
            sound = sound and (mean > 1.5 * bound if above else mean < bound / 2)
        if sound:
            self.good_step.fill_(step)  # type: ignore[operator]
        return trouble


def variety(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The spread of rows (B, …) about their mean over that of `real`: 1 where they vary as much, 0 where all are one.

    B ≥ 2.
    """
    spreads = [(x.float() - x.float().mean(dim=0)).square().mean().sqrt() for x in (fake, real)]
    return spreads[0] / spreads[1].clamp(min=1e-8)
