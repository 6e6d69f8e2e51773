"""Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024), scaled to share AdamW's rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.training.sharding import like, local, whole

__all__ = ["Muon", "matrices", "orthogonalized"]

LEAST_SIDE = 16  # of a matrix for which an orthogonal update means something


def matrices(networks: nn.Module) -> set[Tensor]:
    """The weights of linear layers and convolutions that are no smaller than `LEAST_SIDE` on either side."""
    weights: Iterator[Tensor] = (m.weight for m in networks.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    return {w for w in weights if min(w.shape[0], w[0].numel()) >= LEAST_SIDE}


def orthogonalized(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Near U Vᵀ of the singular value decomposition U S Vᵀ of `matrix` (m, n): singular values within about 0.7 … 1.2.

    A quintic Newton-Schulz iteration in bf16, whose coefficients favor speed over exactness.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized; the kernel of a convolution counts as a matrix with one row per output.

    An update has the root mean square of 0.2 that AdamW's updates have (Liu et al. 2025), so that both optimizers take
    one learning rate.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        assert closure is None, "this optimizer takes gradients as they are"
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                mean = local(state["momentum"]).lerp_(local(p.grad), 1 - group["momentum"])
                ahead = whole(p, local(p.grad).lerp(mean, group["momentum"])).flatten(1)
                update = like(p, orthogonalized(ahead).to(p.dtype).view(p.shape))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * max(ahead.shape) ** 0.5)
