"""A learned log-variance of each noise level's loss (arXiv:2312.02696, section 2.2; latent diffusion's release has one
number a timestep): levels are weighed by how much of their loss cannot be helped."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from darkroom.nn.embeddings import sinusoid

__all__ = ["LogVariance"]

FEATURES = 128


class LogVariance(nn.Module):
    """u(t), which begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(FEATURES, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, loss: Tensor, t: Tensor) -> Tensor:
        """Losses (B,) at timesteps t (B,) as loss / exp(u) + u, the least where exp(u) is the expected loss."""
        u = self.out(sinusoid(t.float(), FEATURES).to(self.out.weight)).flatten()
        return loss / torch.exp(u) + u
