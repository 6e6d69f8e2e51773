"""Noise along a Brownian path: SDE samplers see one path whatever their number of steps.

Two ways to draw it: this project's, and that of torchsde, from which k-diffusion (A1111, ComfyUI) draws.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from darkroom.diffusion.philox import PhiloxGenerator

__all__ = ["BrownianNoise", "BrownianPath", "BrownianTree", "Normal", "cpu_normal", "philox_normal"]

Normal = Callable[[int, Sequence[int]], Tensor]  # (seed, shape) to unit normal float32 numbers

DIGITS = 6  # of a level: torchsde's tolerance of 1e-6
POOL = 24  # words of numpy's seed sequence


def cpu_normal(seed: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def philox_normal(seed: int, shape: Sequence[int]) -> Tensor:
    """As a CUDA device draws them."""
    return PhiloxGenerator(seed).normal(shape)


class BrownianPath(ABC):
    """(W(sigma') − W(sigma)) / sqrt(|sigma − sigma'|), rows (B, *shape) of one path per seed over low … high.

    Every interval is halved again and again until the levels asked for are ends of halves. The middle of an interval is
    drawn by the picture's seed and the interval's place, so that it does not depend on where the path is asked for.
    """

    def __init__(
        self, seeds: Sequence[int], shape: Sequence[int], low: float, high: float, device: torch.device | str = "cpu"
    ) -> None:
        self.seeds, self.shape, self.device = list(seeds), tuple(shape), device
        self.low, self.high = round(low, DIGITS), round(high, DIGITS)
        whole = math.sqrt(high - low)
        self.whole = [self.draw(seed, None) * whole for seed in self.seeds]
        self.last: tuple[float, Tensor] | None = None  # where one step ends the next begins

    @abstractmethod
    def draw(self, seed: int, place: tuple[int, int] | None) -> Tensor:
        """Unit normal numbers of `shape` for the whole path, or the middle of interval number place[0] at depth
        place[1].
        """

    def _path(self, t: float) -> Tensor:
        """W(t) of every seed, W(low) being 0."""
        t = min(max(round(t, DIGITS), self.low), self.high)
        if self.last is None or self.last[0] != t:
            self.last = t, torch.stack([self._walked(seed, whole, t) for seed, whole in zip(self.seeds, self.whole)])
        return self.last[1]

    def _walked(self, seed: int, w: Tensor, t: float) -> Tensor:
        """Down the tree to `t`; `w` is what the path gains over the interval start … end."""
        start, end, number, depth, before = self.low, self.high, 0, 0, torch.zeros_like(w)
        while start < t < end:
            middle = round((start + end) / 2, DIGITS)
            left, right, length = middle - start, end - middle, end - start
            spread = math.sqrt(left * right / length)
            first = w * (left / length) + self.draw(seed, (number, depth)) * spread
            if t < middle:
                end, w, number = middle, first, 2 * number
            else:
                start, w, before, number = middle, w - first, before + first, 2 * number + 1
            depth += 1
        return before if t <= start else before + w

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        a, b = float(sigma), float(sigma_next)
        step = -self._path(a) + self._path(b)
        return (step / max(abs(a - b), 1e-12) ** 0.5).to(self.device)


class BrownianNoise(BrownianPath):
    """This project's: a generator for every interval, seeded by mixing."""

    def draw(self, seed: int, place: tuple[int, int] | None) -> Tensor:
        index = 0 if place is None else 2 ** place[1] + place[0]
        # 2⁶³-modular mixing of seed and place; a Mersenne generator spreads even neighbouring seeds well.
        mixed = (seed * 6364136223846793005 + index * 1442695040888963407 + 1) % 2**63
        return -cpu_normal(mixed, self.shape)  # down from the highest level


class BrownianTree(BrownianPath):
    """torchsde's: numpy's `SeedSequence` makes a seed of the picture's and the interval's place."""

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        low: float,
        high: float,
        device: torch.device | str = "cpu",
        normal: Normal = cpu_normal,
    ) -> None:
        self.normal = normal
        super().__init__(seeds, shape, low, high, device)

    def draw(self, seed: int, place: tuple[int, int] | None) -> Tensor:
        sequence = np.random.SeedSequence(seed, spawn_key=place or (), pool_size=POOL)
        return self.normal(int(sequence.generate_state(1)[0]), self.shape)
