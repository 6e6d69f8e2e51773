"""Changes of a network's weights, put on and taken off from outside: LoRA, LoHa, LoKr, full, DoRA on each, and biases.

A network knows nothing of its adapters. Live ones are forward hooks that add to what a layer gives, to all rows of a
batch (`attach`) or to each row what its own run asks for (`adapted`); merged ones change the weights and remember them.
All are relative to the weights below, so several add up in any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.errors import InputError
from darkroom.nn.quantized import QuantizedLinear
from darkroom.nn.rows import shares

__all__ = [
    "Adapter",
    "Adapters",
    "Attached",
    "Full",
    "Hadamard",
    "Kronecker",
    "LowRank",
    "Merged",
    "WithBias",
    "adapted",
    "attach",
    "frozen_parameter",
    "merge",
    "per_channel",
]

Layer = nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm


class Adapter(nn.Module):
    """A change of one weight. `scale` is alpha / rank; `magnitude` makes it a DoRA.

    A magnitude is the length that the changed weight gets (arXiv:2402.09353, equation 5): per output, shape (out,) or
    (out, 1 …), or per input, shape (1, in …), as two traditions of files have it.
    """

    def __init__(self, scale: float = 1.0, magnitude: Tensor | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.magnitude = None if magnitude is None else frozen_parameter(magnitude)

    def product(self) -> Tensor:
        """The change without scale, as many numbers as the weight."""
        raise NotImplementedError

    def raw_difference(self, weight: Tensor) -> Tensor:
        """What is added to `weight` before a magnitude sets its length, in its shape."""
        return (self.product() * self.scale).reshape(weight.shape)

    def difference(self, weight: Tensor) -> Tensor:
        """What is added to `weight`, in its shape."""
        change = self.raw_difference(weight)
        if self.magnitude is None:
            return change
        changed = weight + change
        per_input = self.magnitude.dim() > 1 and self.magnitude.shape[0] != weight.shape[0]
        axes = [d for d in range(weight.dim()) if d != (1 if per_input else 0)]
        length = torch.linalg.vector_norm(changed, dim=axes, keepdim=True)
        return changed * (self.magnitude.reshape(length.shape) / length) - weight

    def bias_difference(self, bias: Tensor | None) -> Tensor | None:
        """What is added to the layer's `bias` (out,); None for nothing."""
        return None

    def addition(self, layer: Layer, x: Tensor) -> Tensor:
        """What is added to the output of `layer` for input `x`."""
        return _run(layer, x, self.difference(layer.weight).to(x.dtype))


class LowRank(Adapter):
    """up · down (LoRA, arXiv:2106.09685), with a kernel in the middle for convolutions in Tucker form."""

    def __init__(
        self, down: Tensor, up: Tensor, mid: Tensor | None = None, scale: float = 1.0, magnitude: Tensor | None = None
    ) -> None:
        super().__init__(scale, magnitude)
        self.down = frozen_parameter(down)  # (r, in …)
        self.up = frozen_parameter(up)  # (out, r …)
        self.mid = None if mid is None else frozen_parameter(mid)  # (r, r, kh, kw)

    @classmethod
    def fresh(cls, layer: Layer, rank: int, alpha: float | None = None) -> LowRank:
        """For training: `up` is zero, so nothing changes yet. `alpha` defaults to the rank."""
        weight = layer.weight
        down = torch.empty(rank, *weight.shape[1:], device=weight.device)
        nn.init.kaiming_uniform_(down, a=5**0.5)
        up = torch.zeros(weight.shape[0], rank, *[1] * (weight.dim() - 2), device=weight.device)
        adapter = cls(down, up, scale=(rank if alpha is None else alpha) / rank)
        return adapter.requires_grad_(True)

    def product(self) -> Tensor:
        if self.mid is not None:
            return torch.einsum("ijkl,pi,jq->pqkl", self.mid, self.up.flatten(1), self.down.flatten(1))
        return self.up.flatten(1) @ self.down.flatten(1)

    def addition(self, layer: Layer, x: Tensor) -> Tensor:
        if self.magnitude is not None or self.mid is not None:
            return super().addition(layer, x)
        rank = self.down.shape[0]
        shape = layer.weight.shape[1:] if isinstance(layer, nn.Conv2d) else (-1,)  # a quantized weight must be unpacked
        y = _run(layer, x, self.down.reshape(rank, *shape).to(x.dtype))
        up = self.up.flatten(1).to(x.dtype)
        up = up[..., None, None] if isinstance(layer, nn.Conv2d) else up
        return (F.conv2d(y, up) if isinstance(layer, nn.Conv2d) else F.linear(y, up)) * self.scale


class Hadamard(Adapter):
    """(a1 · b1) ∘ (a2 · b2) (LoHa, arXiv:2108.06098); with kernels t1 and t2, factors are (r, out) and (r, in)."""

    def __init__(
        self,
        factors: tuple[Tensor, Tensor, Tensor, Tensor],
        kernels: tuple[Tensor, Tensor] | None = None,
        scale: float = 1.0,
        magnitude: Tensor | None = None,
    ) -> None:
        super().__init__(scale, magnitude)
        self.a1, self.b1, self.a2, self.b2 = (frozen_parameter(t) for t in factors)
        self.t1, self.t2 = (None, None) if kernels is None else (frozen_parameter(t) for t in kernels)

    @classmethod
    def fresh(cls, layer: Layer, rank: int, alpha: float | None = None) -> Hadamard:
        """For training: one factor is zero, so nothing changes yet. `alpha` defaults to the rank."""
        out, into, like = len(layer.weight), layer.weight[0].numel(), layer.weight
        factors = [torch.empty(*shape, device=like.device) for shape in ((out, rank), (rank, into)) * 2]
        for factor, deviation in zip(factors, (0.1, 1.0, 0.0, 1.0)):  # as LyCORIS begins
            nn.init.normal_(factor, std=deviation)
        a1, b1, a2, b2 = factors
        adapter = cls((a1, b1, a2, b2), scale=(rank if alpha is None else alpha) / rank)
        return adapter.requires_grad_(True)

    def product(self) -> Tensor:
        return _factored(self.a1, self.b1, self.t1) * _factored(self.a2, self.b2, self.t2)


class Kronecker(Adapter):
    """w1 ⊗ w2 (LoKr, arXiv:2212.10650), each whole or in factors (a, b) or (a, b, kernel)."""

    def __init__(
        self, w1: Sequence[Tensor], w2: Sequence[Tensor], scale: float = 1.0, magnitude: Tensor | None = None
    ) -> None:
        super().__init__(scale, magnitude)
        self.w1 = nn.ParameterList(frozen_parameter(t) for t in w1)
        self.w2 = nn.ParameterList(frozen_parameter(t) for t in w2)

    @classmethod
    def fresh(cls, layer: Layer, rank: int, alpha: float | None = None, factor: int | None = None) -> Kronecker:
        """For training: w2 is zero, or one of its two factors, so nothing changes yet. `alpha` defaults to the rank.

        w1 has the side `factor`, or the largest divisor below it; the nearest to a square root when not given. w2 is
        whole where `rank` is half its side or more, and alpha then means nothing.
        """
        (out, into), rest = layer.weight.shape[:2], layer.weight.shape[2:]
        m, n = (_divisor(side, factor) for side in (out, into))
        w1 = torch.empty(m, n, device=layer.weight.device)
        nn.init.kaiming_uniform_(w1, a=5**0.5)
        rows, columns = out // m, into // n
        if 2 * rank >= max(rows, columns):
            return cls([w1], [torch.zeros(rows, columns, *rest, device=w1.device)]).requires_grad_(True)
        a = torch.empty(rows, rank, device=w1.device)
        nn.init.kaiming_uniform_(a, a=5**0.5)
        b = torch.zeros(rank, columns * rest.numel(), device=w1.device)
        return cls([w1], [a, b], scale=(rank if alpha is None else alpha) / rank).requires_grad_(True)

    def product(self) -> Tensor:
        w1, w2 = (w[0] if len(w) == 1 else _factored(*w) for w in (self.w1, self.w2))
        return torch.kron(w1.reshape(*w1.shape, *[1] * (w2.dim() - w1.dim())), w2.contiguous())


class Full(Adapter):
    """The difference itself."""

    def __init__(self, change: Tensor, scale: float = 1.0, magnitude: Tensor | None = None) -> None:
        super().__init__(scale, magnitude)
        self.change = frozen_parameter(change)

    def product(self) -> Tensor:
        return self.change


class WithBias(Adapter):
    """A change of the bias (out,), alone or beside the change of the weight."""

    def __init__(self, bias: Tensor, change: Adapter | None = None) -> None:
        super().__init__()
        self.bias = frozen_parameter(bias)
        self.change = change

    def difference(self, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight) if self.change is None else self.change.difference(weight)

    def bias_difference(self, bias: Tensor | None) -> Tensor:
        return self.bias

    def addition(self, layer: Layer, x: Tensor) -> Tensor:
        bias = per_channel(layer, self.bias.to(x.dtype), x.dim())
        return bias if self.change is None else self.change.addition(layer, x) + bias


def frozen_parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def _divisor(side: int, most: int | None) -> int:
    """The largest divisor of `side` up to `most`, or up to its square root."""
    return max(d for d in range(1, min(most or math.isqrt(side), side) + 1) if side % d == 0)


def per_channel(layer: Layer, bias: Tensor, dim: int) -> Tensor:
    """A bias (out,) as it is added to what `layer` gives, which has `dim` axes."""
    return bias.view(-1, *[1] * (dim - 2)) if isinstance(layer, (nn.Conv2d, nn.GroupNorm)) else bias


def _factored(a: Tensor, b: Tensor, kernel: Tensor | None = None) -> Tensor:
    return a @ b if kernel is None else torch.einsum("ijkl,ip,jq->pqkl", kernel, a, b)


def _run(layer: Layer, x: Tensor, weight: Tensor) -> Tensor:
    """`layer` with another weight and no bias."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, weight, None, layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, weight, None, layer.eps)
    return F.linear(x, weight)


@dataclass(frozen=True)
class Adapters:
    """What one run adds to a network: to each layer, by module name, its adapters and the strength of each.

    A value, equal to another of the same adapters at the same strengths; the network knows nothing of it.
    """

    by_layer: Mapping[str, Sequence[tuple[Adapter, float]]]

    @staticmethod
    def of(loras: Iterable[tuple[Mapping[str, Adapter], float]]) -> Adapters | None:
        """Those of several LoRAs, each (module name → adapter, strength); None where nothing is changed."""
        by_layer: dict[str, list[tuple[Adapter, float]]] = {}
        for adapters, strength in loras:
            for name, adapter in adapters.items() if strength else ():
                by_layer.setdefault(name, []).append((adapter, strength))
        return Adapters(by_layer) if by_layer else None


@contextmanager
def adapted(model: nn.Module, rows: Sequence[tuple[int, Adapters | None]]) -> Iterator[None]:
    """Calls of `model` in which each run's rows of the batch get the adapters of that run, live.

    `rows` tells how many rows are whose, in the order of the batch, which is the first axis everywhere. Where one run
    has the call to itself its adapters change whatever passes, however many rows that are. Nothing of the model is
    touched; layers may be quantized or streamed.
    """
    joined: list[tuple[slice, Adapters]] = []
    for share, adapters in shares(rows):
        if joined and joined[-1][0].stop == share.start and joined[-1][1] == adapters:
            share = slice(joined.pop()[0].start, share.stop)
        joined.append((share, adapters))
    total = None if len(rows) == 1 else sum(count for count, _ in rows)
    hooks = []
    try:
        for name in dict.fromkeys(name for _, adapters in joined for name in adapters.by_layer):
            changes = [(share, a.by_layer[name]) for share, a in joined if name in a.by_layer]
            hooks.append(model.get_submodule(name).register_forward_hook(_adding(name, changes, total)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _adding(
    name: str, changes: Sequence[tuple[slice, Sequence[tuple[Adapter, float]]]], total: int | None
) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
    """A hook that adds its own changes to each share of `total` rows; None for all there are."""

    def add(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        (x,) = inputs
        if total is not None and len(x) != total:
            raise ValueError(f"{name} got {len(x)} rows, expected are the {total} that adapters were given for")
        for share, adapters in changes:
            share = slice(None) if total is None else share
            for adapter, strength in adapters:
                output[share] += adapter.addition(layer, x[share]) * strength  # type: ignore[arg-type]
        return output

    return add


class Attached:
    """Live adapters on a network. `strength` may be changed at any time; `detach` leaves the network as it was."""

    def __init__(self, model: nn.Module, adapters: Mapping[str, Adapter], strength: float) -> None:
        self.adapters = dict(adapters)
        self.strength = strength
        self._hooks = [
            model.get_submodule(name).register_forward_hook(self._hook(adapter)) for name, adapter in adapters.items()
        ]

    def _hook(self, adapter: Adapter) -> Callable[[nn.Module, tuple[Tensor], Tensor], Tensor]:
        def add(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            return output + adapter.addition(layer, inputs[0]) * self.strength  # type: ignore[arg-type]

        return add

    def parameters(self) -> Iterator[nn.Parameter]:
        """Of all adapters, for an optimizer."""
        for adapter in self.adapters.values():
            yield from adapter.parameters()

    def detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def attach(model: nn.Module, adapters: Mapping[str, Adapter], strength: float = 1.0) -> Attached:
    """Put `adapters` (module name → adapter) on `model` without touching its weights."""
    return Attached(model, adapters, strength)


class Merged:
    """Adapters that were added to the weights; `undo` puts the old weights back, bit for bit."""

    def __init__(self, originals: dict[nn.Parameter, Tensor]) -> None:
        self._originals = originals

    @torch.no_grad()
    def undo(self) -> None:
        for parameter, original in self._originals.items():
            parameter.copy_(original)
        self._originals = {}


@torch.no_grad()
def merge(model: nn.Module, adapters: Adapters | None) -> Merged:
    """Add `adapters` to the weights of `model`, computed in float32 from the weights as they are.

    To add others later, undo and merge all: the way back must be exact.
    """
    by_layer = {} if adapters is None else adapters.by_layer
    for name in by_layer:
        if isinstance(model.get_submodule(name), QuantizedLinear):
            raise InputError(f"{name} is quantized and takes no merged adapters; live ones it does")
    originals: dict[nn.Parameter, Tensor] = {}
    try:
        for name, found in by_layer.items():  # one at a time: all changes in float32 take twice a network's memory
            weight = model.get_parameter(f"{name}.weight")
            wide = weight.float()
            originals[weight] = weight.to("cpu", copy=True)
            total = torch.zeros_like(wide)
            for adapter, strength in found:
                total += deepcopy(adapter).to(weight.device, torch.float32).difference(wide) * strength
            weight.copy_(wide + total)
            _merge_bias(name, model.get_submodule(name), found, originals)
    except BaseException:
        Merged(originals).undo()
        raise
    return Merged(originals)


def _merge_bias(
    name: str, layer: nn.Module, found: Sequence[tuple[Adapter, float]], originals: dict[nn.Parameter, Tensor]
) -> None:
    bias = layer.bias if isinstance(layer.bias, nn.Parameter) else None
    changes = [(b, strength) for adapter, strength in found if (b := adapter.bias_difference(bias)) is not None]
    if not changes:
        return
    if bias is None:
        raise InputError(f"{name} has no bias and takes no merged change of it; a live one it does")
    originals[bias] = bias.to("cpu", copy=True)
    bias.copy_(bias.float() + sum(b.to(bias.device, torch.float32) * strength for b, strength in changes))
