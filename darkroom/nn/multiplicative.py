"""Changes that are made of the weight itself: (IA)³, OFT and BOFT, GLoRA; put on and taken off as any other."""

from __future__ import annotations

import torch
from torch import Tensor

from darkroom.nn.lora import Adapter, Layer, frozen_parameter, per_channel

__all__ = ["GeneralLowRank", "InputRotation", "Rotation", "Scaling", "neumann_rotations", "rotations"]


class Scaling(Adapter):
    """W' = (1 + v) ∘ W, one number for each output or each input ((IA)³, arXiv:2205.05638).

    `with_bias`: numbers for outputs multiply the bias, too, as PEFT has it.
    """

    def __init__(
        self, vector: Tensor, *, on_input: bool, with_bias: bool = False, magnitude: Tensor | None = None
    ) -> None:
        super().__init__(1.0, magnitude)
        self.vector = frozen_parameter(vector.flatten())
        self.on_input, self.with_bias = on_input, with_bias and not on_input

    def raw_difference(self, weight: Tensor) -> Tensor:
        axis = 1 if self.on_input else 0
        return weight * self.vector.to(weight).view([-1 if d == axis else 1 for d in range(weight.dim())])

    def bias_difference(self, bias: Tensor | None) -> Tensor | None:
        return self.vector.to(bias) * bias if self.with_bias and bias is not None else None

    def addition(self, layer: Layer, x: Tensor) -> Tensor:
        added = super().addition(layer, x)
        bias = self.bias_difference(layer.bias)
        return added if bias is None else added + per_channel(layer, bias.to(x.dtype), x.dim())


class _Turned(Adapter):
    """W' = s ∘ W with rows or columns turned by `rounds` of orthogonal blocks; s (out,) is `rescale`, None: ones."""

    def __init__(self, rounds: Tensor, rescale: Tensor | None = None, magnitude: Tensor | None = None) -> None:
        super().__init__(1.0, magnitude)
        self.rounds = frozen_parameter(rounds)
        self.rescale = None if rescale is None else frozen_parameter(rescale.flatten())

    def raw_difference(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1)  # (out, …)
        turned = self.turned(rows)
        if self.rescale is not None:
            turned = turned * self.rescale.to(rows)[:, None]
        return (turned - rows).view(weight.shape)

    def turned(self, rows: Tensor) -> Tensor:
        """Of (out, …) as many."""
        raise NotImplementedError


class Rotation(_Turned):
    """W' = s ∘ R W: the outputs turned in blocks (OFT, arXiv:2306.07280), or in several rounds over permuted blocks
    (BOFT, arXiv:2311.06243).

    `rounds` (m, k, b, b) are orthogonal; the k blocks of b outputs of round i hold those that lie 2 ** i half blocks
    apart. A plain OFT has one round of neighbors, shape (k, b, b), and turns by the transposes.
    """

    def turned(self, rows: Tensor) -> Tensor:
        if self.rounds.dim() == 3:
            blocks = rows.unflatten(0, self.rounds.shape[:2])
            return (self.rounds.to(rows).mT @ blocks).flatten(0, 1)
        turned = rows
        half = self.rounds.shape[-1] // 2
        for i, blocks in enumerate(self.rounds.to(rows)):
            stride = 2**i * half
            pairs = turned.unflatten(0, (-1, 2, stride)).transpose(1, 2)  # (…, stride, 2, in)
            turned = (blocks @ pairs.reshape(*blocks.shape[:2], -1)).reshape(pairs.shape)
            turned = turned.transpose(1, 2).flatten(0, 2)
        return turned


class InputRotation(_Turned):
    """W' = s ∘ W Rᵀ: the inputs turned in blocks, as PEFT has OFT and BOFT; a convolution's are (in, kh, kw) as one.

    `rounds` (m, k, b, b); round i joins blocks whose halves lie 2 ** i half blocks apart, even places before odd ones.
    """

    def turned(self, rows: Tensor) -> Tensor:
        turned = rows.mT  # (…, out)
        half = max(1, self.rounds.shape[-1] // 2)
        for i, blocks in enumerate(self.rounds.to(rows)):
            order = torch.arange(len(turned), device=rows.device)
            if i:  # halves, sorted inside 2 ** i blocks: even ones first
                order = order.unflatten(0, (-1, 2**i, 2, half)).transpose(1, 2).flatten()
            sorted_rows = torch.empty_like(turned)
            sorted_rows[order] = turned
            turned = (blocks @ sorted_rows.unflatten(0, blocks.shape[:2])).flatten(0, 1)[order]
        return turned.mT


def neumann_rotations(skew: Tensor, terms: int) -> Tensor:
    """Nearly orthogonal matrices (…, b, b) of skew ones: I + 2Q + 2Q² + … + Qⁿ⁻¹, `terms` n as PEFT counts them.

    The last power stands once; n = 3 goes as far as n = 4, and n = 2 has 2Q.
    """
    total = torch.eye(skew.shape[-1], device=skew.device, dtype=skew.dtype).expand_as(skew)
    if terms < 2:
        return total
    highest = 1 if terms == 2 else max(3, terms - 1)
    power = skew
    for exponent in range(1, highest + 1):
        total = total + (power if exponent == highest > 1 else 2 * power)
        power = power @ skew
    return total


def rotations(blocks: Tensor, bound: float = 0.0) -> Tensor:
    """Orthogonal matrices (…, b, b) of any ones, by Cayley: Q = B − Bᵀ, R = (I + Q)(I − Q)⁻¹.

    `bound`: what the norm of all Q together may be; 0 for anything.
    """
    q = blocks.float() - blocks.float().mT
    if bound > 0:
        norm = q.norm() + 1e-8
        q = q * min(1.0, bound / float(norm))
    one = torch.eye(q.shape[-1], device=q.device)
    return ((one + q) @ torch.linalg.inv(one - q)).to(blocks.dtype)


class GeneralLowRank(Adapter):
    """W' = W + scale · (W A + B), A = a1 a2 on the inputs, B = b1 b2 (GLoRA, arXiv:2306.07967), each of low rank."""

    def __init__(
        self, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], scale: float = 1.0, magnitude: Tensor | None = None
    ) -> None:
        super().__init__(scale, magnitude)
        self.a1, self.a2 = (frozen_parameter(t.flatten(1)) for t in a)  # (in, r), (r, in)
        self.b1, self.b2 = (frozen_parameter(t.flatten(1)) for t in b)  # (out, r), (r, in …)

    def raw_difference(self, weight: Tensor) -> Tensor:
        a1, a2, b1, b2 = (t.to(weight) for t in (self.a1, self.a2, self.b1, self.b2))
        on_inputs = (weight.movedim(1, -1) @ a1 @ a2).movedim(-1, 1)
        return self.scale * (on_inputs + (b1 @ b2).view(weight.shape))
