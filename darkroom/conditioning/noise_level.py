"""Noise put on a condition, with the level told to the denoiser (papers D.6)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from darkroom.errors import InputError
from darkroom.noise_schedule import NoiseSchedule

__all__ = ["NoiseLevels"]


@dataclass(frozen=True)
class NoiseLevels(NoiseSchedule):
    """The levels of a noising schedule of its own, 0 … `highest`."""

    highest: int = 999

    def add_noise(self, value: Tensor, noise: Tensor | None, level: int) -> Tensor:
        """sqrt(a) value + sqrt(1 − a) noise at `level`; without noise, `value` as it is."""
        if not 0 <= level <= self.highest:
            raise InputError(f"the noise level is {level}, wanted is 0 to {self.highest}")
        if noise is None:
            return value
        if noise.shape != value.shape:
            raise InputError(f"the noise has shape {list(noise.shape)}, wanted is {list(value.shape)}")
        alpha_bar = float(self.alphas_cumprod()[level])
        return alpha_bar**0.5 * value + (1 - alpha_bar) ** 0.5 * noise.to(value)
