"""Networks whose features metrics compare, by name. Each tells its weights, so that numbers can be told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from darkroom.evaluation.judging import load_judge
from darkroom.registry import Registry

__all__ = ["FEATURES", "FeatureNetwork"]


@dataclass(frozen=True)
class FeatureNetwork:
    """`of` turns pictures (B, 3, H, W) in [−1, 1] into features (B, D); `digest` is of its weights."""

    name: str
    digest: str
    of: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> np.ndarray:
        return self.of(images).float().cpu().numpy()


FEATURES: Registry[Callable[[], FeatureNetwork]] = Registry("feature network")


def judge() -> FeatureNetwork:
    """The network that ships: the judge of the picture-book world, whose features say little of other pictures."""
    network = load_judge()
    weights = hashlib.sha256(b"".join(p.detach().float().numpy().tobytes() for p in network.parameters()))
    return FeatureNetwork("judge", weights.hexdigest()[:10], lambda images: network(images).features)


FEATURES.add("judge", judge)
