"""Noise per image: each picture has a generator of its own on the CPU, so that it does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["BrownianNoise", "SeededNoise"]


class SeededNoise:
    """Unit normal noise (B, *shape); row i comes from seed i alone. Each call draws on, whatever the levels."""

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.shape, self.device = tuple(shape), device

    def draw(self) -> Tensor:
        """float32 (B, *shape)."""
        rows = [torch.randn(self.shape, generator=g) for g in self.generators]
        return torch.stack(rows).to(self.device)

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return self.draw()


class BrownianNoise:
    """(W(sigma) − W(sigma')) / sqrt(|sigma − sigma'|) of one Brownian path per seed over low … high.

    The path does not depend on where it is asked for, so SDE samplers see consistent noise whatever their number of
    steps. A binary tree of bridges: the value in the middle of an interval is drawn from a generator seeded by the
    interval's place.
    """

    DEPTH = 24  # halvings: levels closer than (high − low) / 2²⁴ are one

    def __init__(
        self, seeds: Sequence[int], shape: Sequence[int], low: float, high: float, device: torch.device | str = "cpu"
    ) -> None:
        self.seeds, self.shape, self.device = list(seeds), tuple(shape), device
        self.low, self.high = low, high
        self.end = self._normal(0)  # W(1) on the unit interval; W(0) = 0

    def _normal(self, place: int) -> Tensor:
        # 2⁶⁴-modular mixing of seed and place; a Mersenne generator spreads even neighbouring seeds well.
        rows = []
        for seed in self.seeds:
            mixed = (seed * 6364136223846793005 + place * 1442695040888963407 + 1) % 2**63
            rows.append(torch.randn(self.shape, generator=torch.Generator().manual_seed(mixed)))
        return torch.stack(rows)

    def _path(self, t: float) -> Tensor:
        """W(t) for t in 0 … 1."""
        left, right, w_left, w_right, place = 0.0, 1.0, torch.zeros_like(self.end), self.end, 1
        for _ in range(self.DEPTH):
            if t <= left:
                return w_left
            if t >= right:
                return w_right
            middle = (left + right) / 2
            w_middle = (w_left + w_right) / 2 + self._normal(place) * ((right - left) ** 0.5 / 2)
            if t < middle:
                right, w_right, place = middle, w_middle, 2 * place
            else:
                left, w_left, place = middle, w_middle, 2 * place + 1
        return torch.lerp(w_left, w_right, (t - left) / (right - left))

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        a, b = ((float(s) - self.low) / (self.high - self.low) for s in (sigma, sigma_next))
        a, b = min(max(a, 0.0), 1.0), min(max(b, 0.0), 1.0)
        step = (self._path(a) - self._path(b)) / max(abs(a - b), 1e-12) ** 0.5
        return step.to(self.device)
