"""Linear layers and convolutions whose weights may be stored narrower than what passes through them."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Conv2d", "Linear"]


class Linear(nn.Linear):
    """`nn.Linear` that computes in the precision of its input where its weight is stored in a narrower one."""

    def forward(self, x: Tensor) -> Tensor:  # (…, in) -> (…, out)
        return nn.functional.linear(x, widened(self.weight, x), self.bias)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that computes in the precision of its input where its weight is stored in a narrower one."""

    def forward(self, x: Tensor) -> Tensor:  # (B, in, H, W) -> (B, out, H', W')
        return self._conv_forward(x, widened(self.weight, x), self.bias)


def widened(weight: Tensor, x: Tensor) -> Tensor:
    """`weight` in the precision of `x`, if that is the wider one; autocast does the rest."""
    return weight.to(x.dtype) if weight.dtype.itemsize < x.dtype.itemsize else weight
