"""Noise put on a condition, with the level told to the denoiser (papers D.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from torch import Tensor

from darkroom.errors import InputError
from darkroom.noise_schedule import NoiseSchedule

__all__ = ["NoiseLevels", "read_level"]


@dataclass(frozen=True)
class NoiseLevels(NoiseSchedule):
    """The levels of a noising schedule of its own, 0 … `highest`."""

    highest: int = 999

    def add_noise(self, value: Tensor, noise: Tensor | None, level: int) -> Tensor:
        """sqrt(a) value + sqrt(1 − a) noise at `level`; without noise, `value` as it is."""
        if not 0 <= level <= self.highest:
            raise InputError(f"the noise level is {level}, expected is 0 to {self.highest}")
        if noise is None:
            return value
        if noise.shape != value.shape:
            raise InputError(f"the noise has shape {list(noise.shape)}, expected is {list(value.shape)}")
        alpha_bar = float(self.alphas_cumprod()[level])
        return alpha_bar**0.5 * value + (1 - alpha_bar) ** 0.5 * noise.to(value)


def read_level(inputs: Mapping[str, Any], default: int) -> int:
    """The entry "noise_level" of a request's inputs, `default` without one."""
    level = inputs.get("noise_level")
    level = default if level is None else level
    if isinstance(level, bool) or not isinstance(level, Integral):
        raise InputError(f"the noise level is {level!r}, expected is a whole number")
    return int(level)
