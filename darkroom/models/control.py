"""What ControlNets, T2I-Adapters and IP-Adapters give to a UNet from outside, each run's to its own rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from darkroom.models.unet import DownLevel, NoAttention, UNet, UNetEncoder
from darkroom.nn.attention import Attention, attention
from darkroom.nn.blocks import TransformerBlock
from darkroom.nn.rows import shares

__all__ = ["Control", "ImageKeys", "controlled", "cross_attentions"]


@dataclass(frozen=True, eq=False)
class ImageKeys:
    """Keys and values of a picture, which cross-attention reads beside those of the prompt (IP-Adapter).

    They are made once a run. `weight` is the caller's.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]  # (B, M, heads·d) each, in the order of `cross_attentions`
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Control:
    """What one run gives to one call. Every tensor has the run's rows, or one for all of them."""

    skips: tuple[Tensor, ...] = ()  # one per skip, the finest first: added to what the decoder reads (ControlNet)
    middle: Tensor | None = None  # added to what the middle gives
    levels: tuple[Tensor, ...] = ()  # one per level, the finest first: added on the way down (T2I-Adapter)
    images: tuple[ImageKeys, ...] = ()

    def scaled(self, weight: float | Tensor) -> Control:
        """All additions times `weight`: a number, or one for each skip and, last, for the middle."""
        weights = torch.as_tensor(weight).expand(len(self.skips) + 1).tolist()
        rest = weights[-1]
        return Control(
            tuple(w * r for w, r in zip(weights, self.skips)),
            None if self.middle is None else rest * self.middle,
            tuple(rest * level for level in self.levels),
            tuple(ImageKeys(image.layers, rest * image.weight) for image in self.images),
        )

    def rows(self, which: Sequence[int], total: int) -> Control:
        """Residuals (n, …) as those of the rows `which` of a run that has `total`; the others are given nothing."""

        def spread(residual: Tensor) -> Tensor:
            result = residual.new_zeros(total, *residual.shape[1:])
            result[list(which)] = residual
            return result

        return Control(tuple(map(spread, self.skips)), None if self.middle is None else spread(self.middle))

    def __getitem__(self, share: slice) -> Control:
        """The residuals of some rows."""
        return Control(tuple(r[share] for r in self.skips), None if self.middle is None else self.middle[share])

    def __add__(self, other: Control) -> Control:
        """Both together."""
        middles = [m for m in (self.middle, other.middle) if m is not None]
        return Control(
            _sums(self.skips, other.skips),
            sum(middles[1:], start=middles[0]) if middles else None,
            _sums(self.levels, other.levels),
            self.images + other.images,
        )


def _sums(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True)) if one and other else one or other


def cross_attentions(unet: UNetEncoder) -> list[Attention]:
    """The layers that read a prompt, from the start to the end of the network."""
    return [block.attn2 for block in unet.modules() if isinstance(block, TransformerBlock)]


@contextmanager
def controlled(unet: UNet, rows: Sequence[tuple[int, Control | None]]) -> Iterator[None]:
    """Calls of `unet` in which each run's rows of the batch get what that run gives; None gives nothing.

    `rows` tells how many rows are whose, in the order of the batch. Nothing of the network is touched.
    """
    places: dict[nn.Module, _Place] = {}
    for share, control in shares(rows):
        for module, added in _outputs(unet, control):
            places.setdefault(module, _Place()).outputs.append((share, added))
        for module, added in _skips(unet, control):
            places.setdefault(module, _Place()).skips.append((share, added))
        for image in control.images:
            for layer, (k, v) in zip(cross_attentions(unet), image.layers, strict=True):
                places.setdefault(layer, _Place()).images.append((share, k, v, image.weight))
    hooks: list[RemovableHandle] = []
    try:
        for module, place in places.items():
            hooks += place.attach(module)
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _outputs(unet: UNet, control: Control) -> Iterator[tuple[nn.Module, Tensor]]:
    """The modules behind which something is added, and what."""
    if control.levels:
        places = [_end(level) for level in unet.down if isinstance(level, DownLevel)]
        # A network of fewer levels than the adapter takes the last one behind the middle, as SDXL does.
        yield from zip([*places, unet.mid_block2], control.levels)
    if control.middle is not None:
        yield unet.mid_block2, control.middle


def _skips(unet: UNet, control: Control) -> Iterator[tuple[nn.Module, Tensor]]:
    """The blocks whose skip is added to, and what."""
    if control.skips:
        readers = [block for level in unet.up for block in level.blocks]  # type: ignore[union-attr]
        yield from zip(reversed(readers), control.skips, strict=True)


def _end(level: DownLevel) -> nn.Module:
    """The module of a level behind which a T2I-Adapter adds: the last attention or, without any, the last of all."""
    last = level.attentions[-1]
    return level.resample if isinstance(last, NoAttention) and level.resample is not None else last


@dataclass
class _Place:
    """What is given at one module, each with the rows that it is for."""

    outputs: list[tuple[slice, Tensor]] = field(default_factory=list)
    skips: list[tuple[slice, Tensor]] = field(default_factory=list)
    images: list[tuple[slice, Tensor, Tensor, float]] = field(default_factory=list)

    def attach(self, module: nn.Module) -> Iterator[RemovableHandle]:
        if self.outputs:
            yield module.register_forward_hook(self._add_to_output)
        if self.skips:
            yield module.register_forward_pre_hook(self._add_to_skip)
        if self.images:
            assert isinstance(module, Attention), "pictures are read by cross-attention"
            yield from self._attach_images(module)

    def _add_to_output(self, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        output = output.clone()  # others may hold it, the backward pass among them
        for share, added in self.outputs:
            output[share] += added
        return output

    def _add_to_skip(self, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        joined, *rest = inputs  # (B, stream and skip, H, W), made for this block alone
        for share, added in self.skips:
            joined[share, -added.shape[1] :] += added
        return joined, *rest

    def _attach_images(self, layer: Attention) -> Iterator[RemovableHandle]:
        """y = attention(q, prompt) + weight · attention(q, picture) before the output layer (arXiv:2308.06721)."""
        queries = torch.empty(0)

        def keep(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            nonlocal queries
            queries = output

        def add(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            y, *rest = inputs
            y = y.clone()
            for share, k, v, weight in self.images:
                q = queries[share]
                keys, values = (t.expand(len(q), -1, -1) for t in (k, v))
                y[share] += weight * attention(q, keys, values, layer.heads, upcast=layer.upcast)
            return y, *rest

        yield layer.to_q.register_forward_hook(keep)
        yield layer.to_out.register_forward_pre_hook(add)
