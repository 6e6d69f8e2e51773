"""What a task is: where its run begins, and what wraps the denoiser. Everything else is the same for all tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from darkroom.requests.plan import Plan
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Denoise

__all__ = ["Situation", "Start", "Task"]


def unchanged(denoise: Denoise) -> Denoise:
    return denoise


@dataclass(frozen=True)
class Situation:
    """What a task may begin from: its plan, the model, unit noise (1, C, h, w), and the latent of a first pass."""

    plan: Plan
    model: LatentDiffusion
    noise: Tensor
    first_pass: Tensor | None = None


@dataclass(frozen=True)
class Start:
    """The latent (1, C, h, w) at the first level of the plan, and the wrapper of the guided denoiser."""

    x: Tensor
    wrap: Callable[[Denoise], Denoise] = unchanged


@dataclass(frozen=True)
class Task:
    """`fits`: whether a request is this task's. `start`: where it begins."""

    name: str
    fits: Callable[[Situation], bool]
    start: Callable[[Situation], Start]
