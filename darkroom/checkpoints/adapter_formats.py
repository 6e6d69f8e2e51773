"""The formats in which files hold the change of a layer: which parts make one, what shape it has, how it is built.

Shapes are computed from those of the parts, before anything is loaded or multiplied: a small file can describe a
product of any size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from darkroom.checkpoints.lora_scales import Stated
from darkroom.nn.lora import Adapter, Full, Hadamard, Kronecker, LowRank

__all__ = ["FORMATS", "FULL", "AdapterFormat", "Given", "MisfitError", "Parts", "Shape", "Shapes"]
__all__ += ["WrittenParts", "written_parts"]

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]  # by part
Parts = Mapping[str, Tensor]


class MisfitError(Exception):
    """Parts whose shapes do not go together."""


@dataclass(frozen=True)
class Given:
    """What an adapter is built with besides its parts."""

    scale: float
    magnitude: Tensor | None
    layer: Shape  # of the layer's weight
    stated: Stated  # what PEFT's configuration says of it


@dataclass(frozen=True)
class AdapterFormat:
    """`rank` is what alpha is divided by; None where there is none. `change` and `build` raise `MisfitError`.

    `alpha_bounds`: alpha, 0 where there is none, is no scale but bounds how far the format goes.
    """

    name: str
    rank: Callable[[Shapes], int | None]
    change: Callable[[Shapes, Shape], Shape]  # from parts and the shape of the layer's weight
    build: Callable[[Parts, Given], Adapter]
    alpha_bounds: bool = False


def _matrix(shape: Shape) -> tuple[int, int]:
    """`shape` with all axes but the first as one."""
    if len(shape) < 2:
        raise MisfitError
    return shape[0], math.prod(shape[1:])


def _product(a: Shape, b: Shape) -> Shape:
    """Of a matrix (m, r) and a matrix (r, n)."""
    (m, r), (rows, n) = _matrix(a), _matrix(b)
    if r != rows:
        raise MisfitError
    return m, n


def _with_kernel(kernel: Shape, outer: int, inner: int, out: int, into: int) -> Shape:
    """Of a kernel (outer, inner, kh, kw) between factors that lead from `outer` to `out` and from `into` to `inner`."""
    if len(kernel) != 4 or kernel[:2] != (outer, inner):
        raise MisfitError
    return out, into, *kernel[2:]


def _low_rank(parts: Shapes, _: Shape) -> Shape:
    if "mid" not in parts:
        return _product(parts["up"], parts["down"])
    (out, outer), (inner, into) = _matrix(parts["up"]), _matrix(parts["down"])
    return _with_kernel(parts["mid"], outer, inner, out, into)


def _factored(factors: Sequence[Shape]) -> Shape:
    """Of one whole factor, of (a, b), or of (a, b, kernel) with a (r, out) and b (r, in)."""
    if len(factors) == 1:
        return factors[0]
    if any(len(f) != 2 for f in factors[:2]):
        raise MisfitError
    if len(factors) == 2:
        return _product(factors[0], factors[1])
    (outer, out), (inner, into) = factors[0], factors[1]
    return _with_kernel(factors[2], outer, inner, out, into)


def _hadamard(parts: Shapes, _: Shape) -> Shape:
    first, second = (
        _factored([parts[f"hada_{n}"] for n in (f"w{i}_a", f"w{i}_b", f"t{i}") if f"hada_{n}" in parts]) for i in (1, 2)
    )
    if first != second:
        raise MisfitError
    return first


def _build_hadamard(parts: Parts, given: Given) -> Adapter:
    a1, b1, a2, b2 = (parts[f"hada_{n}"] for n in ("w1_a", "w1_b", "w2_a", "w2_b"))
    kernels = (parts["hada_t1"], parts["hada_t2"]) if "hada_t1" in parts else None
    return Hadamard((a1, b1, a2, b2), kernels, given.scale, given.magnitude)


# Each side of a Kronecker product is whole, or made of two factors, the second perhaps with a kernel.
_W1 = (("lokr_w1",), ("lokr_w1_a", "lokr_w1_b"))
_W2 = (("lokr_w2",), ("lokr_w2_a", "lokr_w2_b"), ("lokr_w2_a", "lokr_w2_b", "lokr_t2"))


def _kronecker(w1: Sequence[str], w2: Sequence[str]) -> AdapterFormat:
    def change(parts: Shapes, _: Shape) -> Shape:
        a, b = (_factored([parts[n] for n in names]) for names in (w1, w2))
        if not 1 <= len(a) <= len(b):
            raise MisfitError
        return tuple(m * n for m, n in zip((*a, *[1] * (len(b) - len(a))), b))

    def rank(parts: Shapes) -> int | None:
        return next((parts[names[1]][0] for names in (w2, w1) if len(names) > 1 and parts[names[1]]), None)

    def build(parts: Parts, given: Given) -> Adapter:
        return Kronecker([parts[n] for n in w1], [parts[n] for n in w2], given.scale, given.magnitude)

    return AdapterFormat("LoKr", rank, change, build)


def _first_axis(part: str) -> Callable[[Shapes], int | None]:
    return lambda parts: parts[part][0] if parts[part] else None


LORA = AdapterFormat(
    "LoRA",
    _first_axis("down"),
    _low_rank,
    lambda parts, given: LowRank(parts["down"], parts["up"], parts.get("mid"), given.scale, given.magnitude),
)
LOHA = AdapterFormat("LoHa", _first_axis("hada_w1_b"), _hadamard, _build_hadamard)
FULL = AdapterFormat(
    "full differences",
    lambda parts: None,
    lambda parts, _: parts["full"],
    lambda parts, given: Full(parts["full"], 1.0, given.magnitude),
)
_HADA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")

FORMATS: Mapping[frozenset[str], AdapterFormat] = {
    frozenset(("down", "up")): LORA,
    frozenset(("down", "up", "mid")): LORA,
    frozenset(_HADA): LOHA,
    frozenset((*_HADA, "hada_t1", "hada_t2")): LOHA,
    **{frozenset((*w1, *w2)): _kronecker(w1, w2) for w1 in _W1 for w2 in _W2},
    frozenset(("full",)): FULL,
}


@dataclass(frozen=True)
class WrittenParts:
    """What a file holds of an adapter, by the names of kohya's and LyCORIS' trainers, besides alpha and magnitude."""

    algorithm: str  # as LyCORIS calls it
    rank: int | None  # None where nothing is of low rank
    parts: Parts


def written_parts(adapter: Adapter) -> WrittenParts | None:
    """None for an adapter that is not written."""
    match adapter:
        case LowRank():
            parts = {"lora_down.weight": adapter.down, "lora_up.weight": adapter.up}
            parts |= {} if adapter.mid is None else {"lora_mid.weight": adapter.mid}
            return WrittenParts("lora", adapter.down.shape[0], parts)
        case Hadamard():
            parts = {"hada_w1_a": adapter.a1, "hada_w1_b": adapter.b1, "hada_w2_a": adapter.a2, "hada_w2_b": adapter.b2}
            if adapter.t1 is not None and adapter.t2 is not None:
                parts |= {"hada_t1": adapter.t1, "hada_t2": adapter.t2}
            return WrittenParts("loha", adapter.b1.shape[0], parts)
        case Kronecker():
            sides = {"lokr_w1": adapter.w1, "lokr_w2": adapter.w2}
            parts = {}
            for name, factors in sides.items():
                names = (name,) if len(factors) == 1 else (f"{name}_a", f"{name}_b", f"{name.replace('w', 't')}")
                parts |= dict(zip(names, factors))
            factored = [w[1].shape[0] for w in (adapter.w2, adapter.w1) if len(w) > 1]
            return WrittenParts("lokr", factored[0] if factored else None, parts)
    return None
