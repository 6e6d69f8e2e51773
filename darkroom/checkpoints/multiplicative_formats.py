"""The formats of changes that are made of the layer's own weight: (IA)³, OFT, BOFT, GLoRA, of LyCORIS, kohya and PEFT.

Shapes are those of the layer's weight where everything fits it, as such a change has no shape of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from darkroom.checkpoints.adapter_formats import AdapterFormat, Given, MisfitError, Parts, Shape, Shapes
from darkroom.nn.lora import Adapter
from darkroom.nn.multiplicative import GeneralLowRank, InputRotation, Rotation, Scaling, neumann_rotations, rotations

__all__ = ["MULTIPLICATIVE"]


def _insist(fits: bool) -> None:
    if not fits:
        raise MisfitError


def _scaling(parts: Shapes, layer: Shape) -> Shape:
    _insist(math.prod(parts["ia3"]) in layer[:2] and math.prod(parts["on_input"]) == 1)
    return layer


def _build_scaling(parts: Parts, given: Given) -> Adapter:
    on_input = bool(parts["on_input"].item())
    _insist(parts["ia3"].numel() == given.layer[on_input])
    return Scaling(parts["ia3"], on_input=on_input, magnitude=given.magnitude)


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


def _build_peft_scaling(parts: Parts, given: Given) -> Adapter:
    on_input = _peft_on_input(tuple(parts["ia3_l"].shape), given.layer)
    return Scaling(parts["ia3_l"] - 1, on_input=on_input, with_bias=True, magnitude=given.magnitude)


def _rotation(parts: Shapes, layer: Shape) -> Shape:
    blocks = parts["oft_blocks"]
    _insist(len(blocks) in (3, 4) and blocks[-1] == blocks[-2] > 0)
    outputs = blocks[-3] * blocks[-1]
    if len(blocks) == 4:  # the last round pairs what lies farthest apart
        _insist(blocks[0] >= 1 and blocks[-1] % 2 == 0 and outputs % (2 ** (blocks[0] - 1) * blocks[-1]) == 0)
    _insist("rescale" not in parts or math.prod(parts["rescale"]) == outputs)
    return layer if outputs == layer[0] else (outputs, *layer[1:])


def _build_rotation(parts: Parts, given: Given) -> Adapter:
    return Rotation(rotations(parts["oft_blocks"], given.scale * given.layer[0]), parts.get("rescale"), given.magnitude)


def _inputs(layer: Shape) -> int:
    return math.prod(layer[1:])


def _oft_block(shape: Shape) -> int:
    """The side b of PEFT's skew blocks, of which a file holds the b (b − 1) / 2 numbers above the diagonal."""
    _insist(len(shape) == 2 and min(shape) > 0)
    side = (1 + math.isqrt(1 + 8 * shape[1])) // 2
    _insist(side * (side - 1) // 2 == shape[1])
    return side


def _peft_oft(parts: Shapes, layer: Shape) -> Shape:
    shape = parts["oft_R"]
    side = _oft_block(shape)
    _insist(shape[0] * side == _inputs(layer) or (shape[0] == 1 and _inputs(layer) % side == 0))
    return layer


def _build_peft_oft(parts: Parts, given: Given) -> Adapter:
    values, stated = parts["oft_R"].float(), given.stated
    side = _oft_block(tuple(values.shape))
    rows, columns = torch.triu_indices(side, side, 1, device=values.device)
    skew = values.new_zeros(len(values), side, side)
    skew[:, rows, columns] = values
    skew = skew - skew.mT
    if stated.oft_bound is not None:  # COFT: each block's norm
        norm = skew.norm(dim=(1, 2), keepdim=True)
        skew = skew * (stated.oft_bound / len(skew) ** 0.5 / norm.clamp_min(1e-12)).clamp_max(1)
    turns = neumann_rotations(skew, stated.oft_terms) if stated.oft_terms else rotations(-skew / 2)
    turns = turns.repeat(_inputs(given.layer) // side // len(turns), 1, 1)  # one block may serve for all
    return InputRotation(turns[None].to(parts["oft_R"].dtype), magnitude=given.magnitude)


def _peft_boft(parts: Shapes, layer: Shape) -> Shape:
    blocks = parts["boft_R"]
    _insist(len(blocks) == 4 and blocks[2] == blocks[3] > 0 and blocks[1] * blocks[2] == _inputs(layer))
    _insist(blocks[0] == 1 or (blocks[0] > 1 and blocks[2] % 2 == 0 and blocks[1] % 2 ** (blocks[0] - 1) == 0))
    _insist(math.prod(parts["boft_s"]) == layer[0])
    return layer


def _build_peft_boft(parts: Parts, given: Given) -> Adapter:
    return InputRotation(rotations(parts["boft_R"] / -2), parts["boft_s"], given.magnitude)


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


def _build_glora(parts: Parts, given: Given) -> Adapter:
    names = _glora_order({n: tuple(t.shape) for n, t in parts.items()}, given.layer)
    a1, a2, b1, b2 = (parts[name] for name in names)
    return GeneralLowRank((a1, a2), (b1, b2), given.scale, given.magnitude)


def _no_rank(parts: Shapes) -> None:
    return None


IA3 = AdapterFormat("(IA)³", _no_rank, _scaling, _build_scaling)
PEFT_IA3 = AdapterFormat("(IA)³", _no_rank, _peft_scaling, _build_peft_scaling)
PEFT_OFT = AdapterFormat("OFT", _no_rank, _peft_oft, _build_peft_oft)
PEFT_BOFT = AdapterFormat("BOFT", _no_rank, _peft_boft, _build_peft_boft)
OFT = AdapterFormat("OFT or BOFT", _no_rank, _rotation, _build_rotation, alpha_bounds=True)
GLORA = AdapterFormat("GLoRA", lambda parts: min(parts["glora_a1"][:2]), _glora, _build_glora)

MULTIPLICATIVE: Mapping[frozenset[str], AdapterFormat] = {
    frozenset(("ia3", "on_input")): IA3,
    frozenset(("ia3_l",)): PEFT_IA3,
    frozenset(("oft_blocks",)): OFT,
    frozenset(("oft_blocks", "rescale")): OFT,
    frozenset(("oft_R",)): PEFT_OFT,
    frozenset(("boft_R", "boft_s")): PEFT_BOFT,
    frozenset(_GLORA): GLORA,
}
