"""A guard that ends a run whose loss explodes: far above where it began, which in a sound run is the worst."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["WINDOW", "LossGuard"]

WINDOW = 20  # steps whose losses are averaged: single steps draw hard timesteps
FACTOR = 5.0  # over the mean of the run's first steps


class LossGuard:
    """Compares the mean of the loss over the last `WINDOW` steps with that over the run's first ones.

    Where there are several losses two players are at odds, and one's gain is the other's loss: nothing is looked at.
    Nor is a loss that began at zero or below (with a learned variance).
    """

    def __init__(self) -> None:
        self.first: list[float] = []
        self.recent: list[float] = []

    def trouble(self, numbers: Mapping[str, float]) -> str | None:
        """Take the numbers of a step, as the log has them; what has exploded, None while nothing has."""
        losses = {name: value for name, value in numbers.items() if name.startswith("loss/")}
        if len(losses) != 1:
            return None
        ((name, value),) = losses.items()
        if len(self.first) < WINDOW:
            self.first.append(value)
            return None
        self.recent = [*self.recent, value][-WINDOW:]
        began, now = sum(self.first) / WINDOW, sum(self.recent) / len(self.recent)
        if len(self.recent) == WINDOW and 0 < FACTOR * began < now:
            return f"{name} is {now:.3g} over the last {WINDOW} steps, it began at {began:.3g}"
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"first": self.first, "recent": self.recent}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.first, self.recent = list(state["first"]), list(state["recent"])
