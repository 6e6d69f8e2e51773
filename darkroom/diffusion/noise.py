"""Noise per image: each picture has a generator of its own on the CPU, so that it does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["SeededNoise", "moved"]


def moved(seed: int, delta: int) -> int:
    """seed + delta, of 64 bits."""
    return (seed + delta) % 2**64


class SeededNoise:
    """Unit normal noise (B, *shape); row i comes from seed i alone. Each call draws on, whatever the levels.

    `step_delta`: when not 0, the noise of steps comes from seed + step_delta.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        *,
        step_delta: int = 0,
    ) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # Without a delta, steps draw on from where the starting latents ended.
        self.steps = (
            [torch.Generator().manual_seed(moved(seed, step_delta)) for seed in seeds]
            if step_delta
            else self.generators
        )
        self.shape, self.device = tuple(shape), device

    def draw(self) -> Tensor:
        """float32 (B, *shape)."""
        return self._rows(self.generators)

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return self._rows(self.steps)

    def _rows(self, generators: Sequence[torch.Generator]) -> Tensor:
        return torch.stack([torch.randn(self.shape, generator=g) for g in generators]).to(self.device)
