"""Noise put on a condition, with the level told to the denoiser (papers D.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.errors import InputError

__all__ = ["NoiseLevels"]


@dataclass(frozen=True)
class NoiseLevels:
    """The levels of a noising schedule of its own, 0 … `highest`.

    "scaled_linear": betas linear in their roots, from `beta_start` to `beta_end`. "cosine": the squared cosine with
    betas of at most 0.999. Formulas: papers C.1. (The diffusion room's schedules stand above this room.)
    """

    kind: Literal["scaled_linear", "cosine"]
    beta_start: float = 0.0
    beta_end: float = 0.0
    highest: int = 999
    steps: int = 1000

    def alphas_cumprod(self) -> Tensor:
        """alpha-bar (steps,) in float64."""
        at = {"dtype": torch.float64, "device": "cpu"}  # real numbers also while modules are built on "meta"
        if self.kind == "cosine":
            t = torch.arange(self.steps + 1, **at) / self.steps
            alpha_bar = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
            betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
        else:
            betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, **at) ** 2
        return torch.cumprod(1 - betas, dim=0)

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
