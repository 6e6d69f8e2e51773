"""Attention: the one place that picks a kernel, and the layer that the transformers use."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.nn.layers import Linear
from darkroom.nn.native.attention import attention_kernel, native_attention

__all__ = ["Attention", "Context", "attention"]


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, *, causal: bool = False, upcast: bool = False) -> Tensor:
    """softmax(q kᵀ / √d) v per head. q (B, N, heads·d), k and v (B, M, heads·d); returns (B, N, heads·d).

    `upcast` computes the scores in float32: Stable Diffusion 2.1 overflows in half precision without it.
    """
    dtype = q.dtype
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, N, d)
    if not causal and (kernel := _kernel_for(q, k, v)) is not None:
        return native_attention(kernel, q, k, v).transpose(1, 2).flatten(2)  # its scores are float32 in any case
    if upcast:
        q, k, v = q.float(), k.float(), v.float()
    if _by_products(q, k) and not causal:
        y = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1).to(v.dtype) @ v
    else:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return y.transpose(1, 2).flatten(2).to(dtype)


def _by_products(q: Tensor, k: Tensor) -> bool:
    """Whether three batched products beat the fused kernel: with its backward pass, in half precision on the CPU."""
    small = q.shape[-2] * k.shape[-2] <= 512 * 512  # the scores are kept for the backward pass
    half = q.device.type == "cpu" and q.dtype != torch.float32
    return half and small and torch.is_grad_enabled() and q.requires_grad


def _kernel_for(q: Tensor, k: Tensor, v: Tensor) -> ctypes.CDLL | None:
    """Ours for bf16 without gradients, where processors have its products but no matrix tiles."""
    gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or gradients or k.shape != v.shape:
        return None
    if torch.compiler.is_compiling():  # which does not see into the library
        return None
    return attention_kernel()


class Context:
    """Tokens (B, M, dim) that cross-attention reads at every step of a run: layers make their keys and values once.

    For as long as weights stay the same, without gradients. `Context.cat` joins those of several runs for one call.
    """

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens
        self._parts: tuple[Context, ...] = ()
        self._made: dict[Attention, tuple[Tensor, Tensor]] = {}

    @staticmethod
    def cat(contexts: Sequence[Context]) -> Context:
        """The rows of all `contexts`, one after another; what layers make of them stays with each.

        Sequences of unlike lengths are repeated as a whole up to the least common multiple, which changes nothing: a
        key that stands n times has n times the share, and so has every other.
        """
        if len(contexts) == 1:
            return contexts[0]
        length = math.lcm(*(c.tokens.shape[1] for c in contexts))
        joined = Context(torch.cat([_repeated(c.tokens, length) for c in contexts]))
        joined._parts = tuple(contexts)
        return joined

    def keys_and_values(self, layer: Attention) -> tuple[Tensor, Tensor]:
        """Those of `layer`, each (B, M, heads·d)."""
        if layer not in self._made:
            if self._parts and all(layer in part._made for part in self._parts):
                self._made[layer] = self._joined(layer)
            else:  # for all rows at once: adapters of `layer` count the rows of the call
                self._made[layer] = (layer.to_k(self.tokens), layer.to_v(self.tokens))
                self._hand_out(layer)
        return self._made[layer]

    def _joined(self, layer: Attention) -> tuple[Tensor, Tensor]:
        length = self.tokens.shape[1]
        keys, values = zip(*(part._made[layer] for part in self._parts))
        return torch.cat([_repeated(k, length) for k in keys]), torch.cat([_repeated(v, length) for v in values])

    def _hand_out(self, layer: Attention) -> None:
        """Give the parts their keys and values, for calls that they share with others."""
        first = 0
        for part in self._parts:
            batch, length = part.tokens.shape[:2]
            if layer not in part._made:
                k, v = (made[first : first + batch, :length] for made in self._made[layer])
                part._made[layer] = (k.clone(), v.clone())  # views would keep all rows in memory
            first += batch


def _repeated(tokens: Tensor, length: int) -> Tensor:
    """`tokens` (B, M, …) as often as `length` holds M."""
    return tokens if tokens.shape[1] == length else tokens.repeat(1, length // tokens.shape[1], 1)


class Attention(nn.Module):
    """Self-attention (`context_dim` None) or cross-attention. q, k and v have no bias, the output has one."""

    def __init__(
        self, dim: int, context_dim: int | None, heads: int, head_dim: int, *, upcast: bool = False, dropout: float = 0
    ) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.upcast = upcast
        self.to_q = Linear(dim, inner, bias=False)
        self.to_k = Linear(context_dim or dim, inner, bias=False)
        self.to_v = Linear(context_dim or dim, inner, bias=False)
        self.to_out = Linear(inner, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Context | Tensor | None = None) -> Tensor:
        """x (B, N, dim); the context (B, M, context_dim) is x itself by default."""
        k, v = self._keys_and_values(x if context is None else context)
        y = attention(self.to_q(x), k, v, self.heads, upcast=self.upcast)
        return self.dropout(self.to_out(y))

    def _keys_and_values(self, context: Context | Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(context, Context):
            # Compilers want tensors alone, and what is made without gradients serves nobody who wants them.
            if not torch.is_grad_enabled() and not torch.compiler.is_compiling():
                return context.keys_and_values(self)
            context = context.tokens
        return self.to_k(context), self.to_v(context)
