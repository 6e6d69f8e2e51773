"""Perceptual distance: how differently a frozen network sees two pictures (LPIPS, papers B.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

__all__ = ["feature_distance"]


def feature_distance(features: Callable[[Tensor], Sequence[Tensor]], a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of the unit-normalized features of `a` and `b` (B, 3, H, W), averaged over space, summed over
    maps: LPIPS with all channels weighted alike. Returns (B,). Gradients flow to `b` only.
    """
    theirs = [_unit(f).detach() for f in features(a)]
    ours = [_unit(f) for f in features(b)]
    terms = [(x - y).square().sum(dim=1).mean(dim=(1, 2)) for x, y in zip(theirs, ours)]
    return sum(terms[1:], terms[0])


def _unit(x: Tensor) -> Tensor:
    x = x.float()
    return x * (x.square().sum(dim=1, keepdim=True) + 1e-10).rsqrt()
