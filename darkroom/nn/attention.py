"""Attention: the one place that picks a kernel, and the layer that the transformers use."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Attention", "attention", "attention_in_blocks"]


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, *, causal: bool = False, upcast: bool = False) -> Tensor:
    """softmax(q kᵀ / √d) v per head. q (B, N, heads·d), k and v (B, M, heads·d); returns (B, N, heads·d).

    `upcast` computes the scores in float32: Stable Diffusion 2.1 overflows in half precision without it.
    """
    dtype = q.dtype
    if upcast:
        q, k, v = q.float(), k.float(), v.float()
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))  # (B, heads, N, d)
    if _training_on_cpu(q, k) and not causal:
        # The fused kernel's backward pass is slower than three batched products.
        y = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1).to(v.dtype) @ v
    elif _blocks_win(q, k, v) and not causal:
        y = attention_in_blocks(q, k, v)
    else:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return y.transpose(1, 2).flatten(2).to(dtype)


def attention_in_blocks(q: Tensor, k: Tensor, v: Tensor, block: int = 2**20) -> Tensor:
    """Attention of (B, heads, N, d), written as matrix products on at most `block` scores (or one row of them) at once.

    Products of bf16 are rounded to bf16, so scores are a little coarser than the fused kernel's; their softmax is
    float32. Without gradients.
    """
    batch, heads, n, d = q.shape
    m = k.shape[2]
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    k = k.transpose(1, 2)  # (B·heads, d, M)
    y = torch.empty_like(q)
    group = max(1, block // (n * m))  # whole heads where they are small
    rows = max(1, min(n, block // m))
    for h in range(0, batch * heads, group):
        kh, vh = k[h : h + group], v[h : h + group]
        for i in range(0, n, rows):
            scores = torch.bmm(q[h : h + group, i : i + rows], kh).float().mul_(d**-0.5)
            y[h : h + group, i : i + rows] = torch.bmm(scores.softmax(dim=-1).to(v.dtype), vh)
    return y.unflatten(0, (batch, heads))


def _training_on_cpu(q: Tensor, k: Tensor) -> bool:
    small = q.shape[-2] * k.shape[-2] <= 512 * 512  # the scores are kept for the backward pass
    return q.device.type == "cpu" and small and torch.is_grad_enabled() and q.requires_grad


def _blocks_win(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """In bf16 without matrix tiles the fused kernel is no faster than in float32; products are, by two to four."""
    gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and not gradients and _bf16_without_tiles()


@cache
def _bf16_without_tiles() -> bool:
    found = torch.cpu.get_capabilities()
    return bool(found.get("avx512_bf16")) and not found.get("amx_bf16")


class Attention(nn.Module):
    """Self-attention (`context_dim` None) or cross-attention. q, k and v have no bias, the output has one."""

    def __init__(
        self, dim: int, context_dim: int | None, heads: int, head_dim: int, *, upcast: bool = False, dropout: float = 0
    ) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.upcast = upcast
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim or dim, inner, bias=False)
        self.to_out = nn.Linear(inner, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:  # (B, N, dim), (B, M, context_dim)
        context = x if context is None else context
        y = attention(self.to_q(x), self.to_k(context), self.to_v(context), self.heads, upcast=self.upcast)
        return self.dropout(self.to_out(y))
