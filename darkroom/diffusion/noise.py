"""Noise per image: each picture has a generator of its own on the CPU, so that it does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["SeededNoise"]


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
