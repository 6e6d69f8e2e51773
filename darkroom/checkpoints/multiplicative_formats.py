"""The formats of changes that are made of the layer's own weight: (IA)³, OFT, BOFT, GLoRA, of LyCORIS, kohya and PEFT.

Shapes are those of the layer's weight where everything fits it, as such a change has no shape of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from darkroom.checkpoints.adapter_formats import AdapterFormat, MisfitError, Parts, Shape, Shapes
from darkroom.nn.lora import Adapter
from darkroom.nn.multiplicative import GeneralLowRank, Rotation, Scaling, rotations

__all__ = ["MULTIPLICATIVE"]


def _insist(fits: bool) -> None:
    if not fits:
        raise MisfitError


def _scaling(parts: Shapes, layer: Shape) -> Shape:
    _insist(math.prod(parts["ia3"]) in layer[:2] and math.prod(parts["on_input"]) == 1)
    return layer


def _build_scaling(parts: Parts, scale: float, magnitude: Tensor | None, layer: Shape) -> Adapter:
    on_input = bool(parts["on_input"].item())
    _insist(parts["ia3"].numel() == layer[on_input])
    return Scaling(parts["ia3"], on_input=on_input, magnitude=magnitude)


def _peft_on_input(shape: Shape, layer: Shape) -> bool:
    """PEFT's vectors of linear layers stand as columns for outputs and as rows for inputs; those of convolutions,
    (1, n, 1, 1), are told by the layer's two widths where these differ."""
    if shape == (layer[0], 1):
        return False
    if shape == (1, layer[1]):
        return True
    _insist(len(shape) == 4 and shape[1] == math.prod(shape) and shape[1] in layer[:2] and layer[0] != layer[1])
    return shape[1] == layer[1]


def _peft_scaling(parts: Shapes, layer: Shape) -> Shape:
    _peft_on_input(parts["ia3_l"], layer)
    return layer


def _build_peft_scaling(parts: Parts, scale: float, magnitude: Tensor | None, layer: Shape) -> Adapter:
    on_input = _peft_on_input(tuple(parts["ia3_l"].shape), layer)
    return Scaling(parts["ia3_l"] - 1, on_input=on_input, with_bias=True, magnitude=magnitude)


def _rotation(parts: Shapes, layer: Shape) -> Shape:
    blocks = parts["oft_blocks"]
    _insist(len(blocks) in (3, 4) and blocks[-1] == blocks[-2] > 0)
    outputs = blocks[-3] * blocks[-1]
    if len(blocks) == 4:  # the last round pairs what lies farthest apart
        _insist(blocks[0] >= 1 and blocks[-1] % 2 == 0 and outputs % (2 ** (blocks[0] - 1) * blocks[-1]) == 0)
    _insist("rescale" not in parts or math.prod(parts["rescale"]) == outputs)
    return layer if outputs == layer[0] else (outputs, *layer[1:])


def _build_rotation(parts: Parts, scale: float, magnitude: Tensor | None, layer: Shape) -> Adapter:
    return Rotation(rotations(parts["oft_blocks"], scale * layer[0]), parts.get("rescale"), magnitude)


_GLORA = ("glora_a1", "glora_a2", "glora_b1", "glora_b2")


def _glora_order(parts: Shapes, layer: Shape) -> tuple[str, ...]:
    """The names of a1 (in, r), a2 (r, in), b1 (out, r), b2 (r, in …): the first releases had each pair exchanged."""
    for names in (_GLORA, ("glora_a2", "glora_a1", "glora_b2", "glora_b1")):
        (i, r1), (r2, i2), (o, r3), (r4, wide) = ((parts[n][0], math.prod(parts[n][1:])) for n in names)
        if (i, i2, o, wide) == (layer[1], layer[1], layer[0], math.prod(layer[1:])) and r1 == r2 > 0 and r3 == r4 > 0:
            return names
    raise MisfitError


def _glora(parts: Shapes, layer: Shape) -> Shape:
    _insist(all(len(shape) > 1 for shape in parts.values()))
    _glora_order(parts, layer)
    return layer


def _build_glora(parts: Parts, scale: float, magnitude: Tensor | None, layer: Shape) -> Adapter:
    names = _glora_order({n: tuple(t.shape) for n, t in parts.items()}, layer)
    a1, a2, b1, b2 = (parts[name] for name in names)
    return GeneralLowRank((a1, a2), (b1, b2), scale, magnitude)


def _no_rank(parts: Shapes) -> None:
    return None


IA3 = AdapterFormat("(IA)³", _no_rank, _scaling, _build_scaling)
PEFT_IA3 = AdapterFormat("(IA)³", _no_rank, _peft_scaling, _build_peft_scaling)
OFT = AdapterFormat("OFT or BOFT", _no_rank, _rotation, _build_rotation, alpha_bounds=True)
GLORA = AdapterFormat("GLoRA", lambda parts: min(parts["glora_a1"][:2]), _glora, _build_glora)

MULTIPLICATIVE: Mapping[frozenset[str], AdapterFormat] = {
    frozenset(("ia3", "on_input")): IA3,
    frozenset(("ia3_l",)): PEFT_IA3,
    frozenset(("oft_blocks",)): OFT,
    frozenset(("oft_blocks", "rescale")): OFT,
    frozenset(_GLORA): GLORA,
}
