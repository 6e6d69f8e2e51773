"""Deep features of a UNet that serve several steps (DeepCache, arXiv:2312.00858)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from darkroom.models.unet import DownLevel, UNet
from darkroom.nn.attention import Context

__all__ = ["DeepFeatures", "deepcache"]


class DeepFeatures:
    """What the levels below the finest gave, for the next evaluations of one run.

    Features are computed at every `every`-th evaluation; in between those of the last are taken.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._age = 0
        self._kept: Tensor | None = None

    def keep(self, features: Tensor) -> None:
        """(B, C, h, w) at the finest resolution."""
        self._kept, self._age = features, 1

    def take(self, rows: int) -> Tensor | None:
        """Features for this evaluation; None if they must be computed. Those of another number of rows do not serve."""
        if self._kept is None or self._age >= self.every or len(self._kept) != rows:
            return None
        self._age += 1
        return self._kept


@contextmanager
def deepcache(unet: UNet, features: DeepFeatures | None) -> Iterator[None]:
    """Calls of `unet` that compute the finest level alone where `features` serve; None changes nothing."""
    if features is None:
        yield
        return
    finest, last = unet.down[0], unet.up[-1]
    assert isinstance(finest, DownLevel)

    def forward(x: Tensor, t: Tensor, tokens: Context | Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        embedding = unet.embed(t, vector)
        y = unet.conv_in(x.to(embedding.dtype))
        deep = features.take(len(x))
        if deep is None:
            skips = unet.encode(y, embedding, tokens)
            deep = unet.middle(skips[-1], embedding, tokens)
            for level in unet.up[:-1]:
                deep = level(deep, skips, embedding, tokens)
            features.keep(deep)
        else:
            skips = [y, *finest.at_this_resolution(y, embedding, tokens)]
        return unet.out(last(deep, skips, embedding, tokens))

    unet.forward = forward
    try:
        yield
    finally:
        del unet.forward
