"""The two regularisers of the first stage: a Gaussian posterior (KL) and a codebook (VQ)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["KLConfig", "Posterior", "Quantized", "VQConfig", "VectorQuantizer"]


@dataclass(frozen=True)
class KLConfig:
    kind: Literal["kl"] = "kl"


@dataclass(frozen=True)
class VQConfig:
    """`legacy`: the released quantizer's slip, beta on the codebook term instead of the commitment (papers B.2)."""

    codes: int
    beta: float = 0.25
    legacy: bool = True
    kind: Literal["vq"] = "vq"


@dataclass(frozen=True)
class Posterior:
    """N(mean, exp(logvar)) for every latent number; both (B, C, h, w)."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def from_moments(cls, moments: Tensor) -> Posterior:
        """Split (B, 2C, h, w) into mean and log-variance, the latter clamped to [−30, 20]."""
        mean, logvar = moments.chunk(2, dim=1)
        return cls(mean, logvar.clamp(-30.0, 20.0))

    def sample(self, noise: Tensor) -> Tensor:
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Tensor:
        """KL to the unit normal, summed over the latent, (B,)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).sum(dim=(1, 2, 3))


@dataclass(frozen=True)
class Quantized:
    z: Tensor  # (B, C, h, w), straight-through
    codes: Tensor  # (B, h, w) indices
    loss: Tensor  # scalar
    perplexity: Tensor  # exp of the entropy of code use in this batch: how many codes are alive


class VectorQuantizer(nn.Module):
    """Nearest code by squared distance; gradients pass straight through."""

    def __init__(self, config: VQConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.codes, dim)
        nn.init.uniform_(self.embedding.weight, -1 / config.codes, 1 / config.codes)

    def nearest(self, z: Tensor) -> Tensor:
        """Indices (B, h, w) of the codes nearest to z (B, C, h, w)."""
        flat = z.permute(0, 2, 3, 1).flatten(0, 2)  # (N, C)
        weight = self.embedding.weight
        distance = flat.square().sum(1, keepdim=True) + weight.square().sum(1) - 2 * flat @ weight.T
        return distance.argmin(dim=1).view(z.shape[0], *z.shape[2:])

    def lookup(self, codes: Tensor) -> Tensor:
        return self.embedding(codes).permute(0, 3, 1, 2)

    def forward(self, z: Tensor) -> Quantized:
        codes = self.nearest(z)
        q = self.lookup(codes)
        commitment, codebook = F.mse_loss(z, q.detach()), F.mse_loss(q, z.detach())
        beta = self.config.beta
        loss = commitment + beta * codebook if self.config.legacy else beta * commitment + codebook
        use = torch.bincount(codes.flatten(), minlength=self.config.codes).float() / codes.numel()
        perplexity = torch.exp(-(use * (use + 1e-10).log()).sum())
        return Quantized(z + (q - z).detach(), codes, loss, perplexity)
