"""The contracts between the rooms of the house, on one page. No torch at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Denoise", "Network", "NoiseSource", "Request", "Sample", "Sampler", "Size", "Step"]


@dataclass(frozen=True, order=True)
class Size:
    """Height before width, in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"  # the spelling that users type


class Denoise(Protocol):
    """The one contract of sampling: the estimate of the clean latent.

    `x` (B, C, h, w) is `x0 + sigma * noise` (variance-exploding); `sigma` is a scalar tensor or (B,).
    Returns the estimate of x0, shaped like `x`.
    """

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor: ...


class Network(Protocol):
    """What a diffusion process wraps: scaled input (B, C, h, w) and timestep (B,), fractions allowed; raw output."""

    def __call__(self, x: Tensor, t: Tensor, /) -> Tensor: ...


class NoiseSource(Protocol):
    """Unit normal noise for a step from `sigma` down to `sigma_next`, one generator per image, shape of the latent.

    Plain sources ignore the two levels; a Brownian path uses them so that noise agrees across step counts.
    """

    def __call__(self, sigma: Tensor, sigma_next: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Step:
    """What a sampler yields after each step: enough for progress, preview and cancelling."""

    index: int  # 0 … total - 1
    total: int
    sigma: float  # the level that this step came from
    x: Tensor  # the latent after the step, at the next level
    x0: Tensor  # the clean estimate that the step used


# sampler(denoise, x, sigmas, noise) yields one Step per step; `sigmas` falls and ends in zero or where its slice ends.
Sampler = Callable[["Denoise", "Tensor", "Tensor", "NoiseSource"], Iterator[Step]]


@dataclass(frozen=True)
class Request:
    """Everything that determines one picture. The same request gives the same picture.

    `None` means the default of the system. `inputs` holds what the task and the embedders read besides the prompt
    (image, mask, boxes, class, original_size, crop …), by the embedder's key.
    """

    prompt: str = ""
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    schedule: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One training example: the picture, what is known about it and what was done to it."""

    image: Any  # uint8 array (H, W, 3), RGB; datasets stay free of torch
    conditions: Mapping[str, Any]  # by embedder key: "caption", "boxes", "class" …
    original_size: Size  # before any resizing
    crop: tuple[int, int] = (0, 0)  # top, left, cut after resizing
    target_size: Size | None = None
