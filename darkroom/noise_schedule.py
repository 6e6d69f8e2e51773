"""Noise schedules: how much signal is left at each timestep (papers C.1). Denoisers have one, noised conditions too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["LAST_ALPHA_BAR", "NoiseSchedule"]

# The last level of a schedule of zero terminal SNR keeps this much signal, so that its sigma stays finite (papers C.2).
LAST_ALPHA_BAR = 2.0**-24


@dataclass(frozen=True)
class NoiseSchedule:
    """betas over `steps` timesteps.

    "scaled_linear": linear in sqrt(beta) from `beta_start` to `beta_end`. "cosine": of the squared cosine, at most
    0.999.
    """

    kind: Literal["scaled_linear", "linear", "cosine"]
    beta_start: float = 0.0  # not read by "cosine"
    beta_end: float = 0.0
    steps: int = 1000
    zero_terminal_snr: bool = False

    def alphas_cumprod(self) -> Tensor:
        """alpha-bar (steps,) in float64, falling."""
        at = {"dtype": torch.float64, "device": "cpu"}  # real numbers also while modules are built on "meta"
        if self.kind == "cosine":
            t = torch.arange(self.steps + 1, **at) / self.steps
            alpha_bar = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2
            betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)
        elif self.kind == "linear":
            betas = torch.linspace(self.beta_start, self.beta_end, self.steps, **at)
        else:
            betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, **at) ** 2
        alpha_bar = torch.cumprod(1 - betas, dim=0)
        if self.zero_terminal_snr:
            s = alpha_bar.sqrt()
            alpha_bar = ((s - s[-1]) * s[0] / (s[0] - s[-1])) ** 2
            alpha_bar[-1] = LAST_ALPHA_BAR
        return alpha_bar
