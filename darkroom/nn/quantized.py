"""Linear layers whose weights and inputs are rounded to eight bits: smaller and faster, not the same numbers.

Weights are scaled per output, once; inputs per row (one token) each time, as LLM.int8() does it (Dettmers et al. 2022,
arXiv:2208.07339, section 2.1): no calibration is needed. Sums are exact or in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.errors import InputError
from darkroom.nn.layers import Linear

__all__ = ["FORMATS", "Format", "QuantizedLinear", "find_format", "quantize"]

FORMATS = ("int8", "fp8")
WORTH = 2**18  # values of a weight from which the product outweighs the rounding of inputs and the scaling of outputs
MULTIPLE = 16  # of inputs and outputs, what the products of GPUs take
TINY = 1e-20  # keeps rows of zeros from dividing by zero


@dataclass(frozen=True)
class Format:
    """How numbers are rounded and multiplied on one kind of device.

    `product(rows (M, in), packed weight, scale (out,))` gives rows · weightᵀ · scale in float32 (M, out).
    """

    dtype: torch.dtype
    highest: float  # value of a rounded input
    highest_weight: float
    pack: Callable[[Tensor], Tensor]  # of the rounded weight (out, in), in the form that the product takes
    product: Callable[[Tensor, Tensor, Tensor], Tensor]

    def rounded(self, x: Tensor, highest: float) -> tuple[Tensor, Tensor]:
        """(Values of this format, scale (…, 1)) whose product is about x (…, n); the largest of a row is `highest`."""
        low, high = torch.aminmax(x, dim=-1, keepdim=True)
        scale = torch.maximum(high, -low).clamp_(min=TINY) / highest
        scaled = x * scale.reciprocal()
        return (scaled if self.dtype.is_floating_point else scaled.round_()).to(self.dtype), scale


class QuantizedLinear(nn.Module):
    """A linear layer in eight bits, made from one with all of them. No gradients pass it, and it is not written."""

    def __init__(self, layer: nn.Linear, form: Format) -> None:
        super().__init__()
        self.in_features, self.out_features, self.form = layer.in_features, layer.out_features, form
        values, scale = form.rounded(layer.weight.detach().float(), form.highest_weight)
        self.packed = form.pack(values)
        self.scale = scale[:, 0]
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:
        """(out, in) in float32, as far as eight bits hold it. It is computed at each call."""
        rows = torch.eye(self.in_features, device=self.scale.device).to(self.form.dtype)
        return self.form.product(rows, self.packed, self.scale).t()

    def forward(self, x: Tensor) -> Tensor:  # (…, in) -> (…, out)
        if torch.is_grad_enabled() and x.requires_grad:
            raise InputError(
                "no gradients pass quantized layers; targets and training want a model that is not quantized"
            )
        rows, scale = self.form.rounded(x.flatten(0, -2).float(), self.form.highest)
        y = self.form.product(rows, self.packed, self.scale)
        y = y * scale if self.bias is None else torch.addcmul(self.bias.float(), y, scale)
        return y.to(x.dtype).unflatten(0, x.shape[:-1])

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        raise InputError("a quantized model is not written; load it without quantizing and write that")


def quantize(module: nn.Module, form: Format) -> None:
    """Put quantized layers in the place of all linear layers in `module` that are large enough to gain by it."""
    for name, child in module.named_children():
        if isinstance(child, Linear):
            fits = child.in_features % MULTIPLE == 0 and child.out_features % MULTIPLE == 0
            if fits and child.weight.numel() >= WORTH:
                setattr(module, name, QuantizedLinear(child, form))
        else:
            quantize(child, form)


def find_format(name: str, device: torch.device) -> Format:
    """The format called `name` ("int8", "fp8") for `device`; `InputError` where it has no fast products in it."""
    if name not in FORMATS:
        raise InputError(f"unknown quantization {name!r}; known are: {', '.join(FORMATS)}")
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if name == "fp8":
        if capability is None or capability < (8, 9):
            raise InputError(f"{device} has no fast products in fp8: GPUs from compute capability 8.9 on have them")
        return Format(torch.float8_e4m3fn, 448.0, 448.0, Tensor.contiguous, _fp8_product)
    if capability is not None and capability >= (7, 5):
        return Format(torch.int8, 127.0, 127.0, Tensor.contiguous, _int8_product)
    has = torch.cpu.get_capabilities()
    if device.type != "cpu" or not has.get("avx2") or not torch.backends.mkldnn.is_available():
        raise InputError(
            f"{device} has no fast products in int8: x86 processors with AVX2 and GPUs from compute capability 7.5 on "
            "have them"
        )
    # Without VNNI pairs of products are added in 16 bits, which inputs of 8 bits and weights of 7 cannot overflow.
    exact = any(has.get(key) for key in ("avx512_vnni", "avx_vnni", "amx_int8"))
    return Format(torch.int8, 127.0, 127.0 if exact else 64.0, _onednn_pack, _onednn_product)


def _onednn_pack(values: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_prepack(values, None)


def _onednn_product(rows: Tensor, packed: Tensor, scale: Tensor) -> Tensor:
    zeros = torch.zeros(len(scale), dtype=torch.int64)
    return torch.ops.onednn.qlinear_pointwise(
        rows, 1.0, 0, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


def _int8_product(rows: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    padded = F.pad(rows, (0, 0, 0, max(0, 17 - len(rows))))  # it takes no fewer
    return torch._int_mm(padded, weight.t())[: len(rows)] * scale


def _fp8_product(rows: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    one = torch.ones((), device=rows.device)
    return torch._scaled_mm(rows, weight.t(), one, one, out_dtype=torch.float32) * scale
