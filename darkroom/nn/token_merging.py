"""Token merging for self-attention over positions (Bolya & Hoffman 2023, arXiv:2303.17604): fewer tokens attend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from darkroom.nn.blocks import SpatialTransformer, TransformerBlock

__all__ = ["Groups", "TokenMerging", "token_merging"]

PIECE = 2048  # tokens that are compared with all destinations at once


@dataclass(frozen=True)
class Groups:
    """Which tokens became one: `owner` (B, N) is each token's group, 0 … `count` − 1."""

    owner: Tensor
    count: int

    def merge(self, x: Tensor) -> Tensor:
        """The mean of every group: (B, N, C) → (B, count, C)."""
        index = self.owner[..., None]
        size = (x.shape[0], self.count)
        total = x.new_zeros(*size, x.shape[2]).scatter_add(1, index.expand(x.shape), x)
        members = x.new_zeros(*size, 1).scatter_add(1, index, torch.ones_like(x[..., :1]))
        return total / members

    def unmerge(self, y: Tensor) -> Tensor:
        """Every token gets what its group got: (B, count, C) → (B, N, C)."""
        return y.gather(1, self.owner[..., None].expand(-1, -1, y.shape[2]))


class TokenMerging:
    """Merges a `share` (0 to 0.75) of the tokens of each map, for all evaluations of one run.

    In each cell of 2 × 2 positions one token, drawn at random, is a destination. Of the others those that are most like
    a destination, by cosine, are merged into it. Draws are the same in every run and for all rows of a batch, so a
    picture does not depend on what else is in its batch; they differ from block to block and from step to step, so that
    no position is always the coarse one.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._generator = torch.Generator().manual_seed(0)

    def groups(self, x: Tensor, height: int, width: int) -> Groups:
        """Groups for x (B, height · width, C), found by bipartite soft matching (section 3 and 4.1 of the paper)."""
        destinations, sources = (p.to(x.device) for p in self._parted(height, width))
        if len(destinations) == 0:  # a map of one row or column has no whole cell
            return Groups(torch.arange(height * width, device=x.device).expand(len(x), -1), height * width)
        merged = min(int(height * width * self.share), len(sources))
        unit = F.normalize(x, dim=-1)
        theirs = unit[:, destinations].transpose(1, 2)
        best = [(part @ theirs).max(dim=-1) for part in unit[:, sources].split(PIECE, dim=1)]
        likeness = torch.cat([b.values for b in best], dim=1)  # (B, S)
        nearest = torch.cat([b.indices for b in best], dim=1)
        order = likeness.argsort(dim=1, descending=True, stable=True)
        alone = torch.arange(len(destinations), height * width - merged, device=x.device)
        owner = torch.empty(x.shape[:2], dtype=torch.int64, device=x.device)
        owner[:, destinations] = torch.arange(len(destinations), device=x.device)
        owner[:, sources] = nearest.scatter(1, order[:, merged:], alone.expand(len(x), -1))
        return Groups(owner, height * width - merged)

    def _parted(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Positions of destinations, one drawn in every whole cell, and of the rest."""
        rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
        corner = torch.randint(4, rows.shape, generator=self._generator)
        chosen = ((2 * rows + corner // 2) * width + 2 * columns + corner % 2).flatten()
        rest = torch.ones(height * width, dtype=torch.bool)
        rest[chosen] = False
        return chosen, rest.nonzero()[:, 0]


@contextmanager
def token_merging(transformers: Iterable[SpatialTransformer], merging: TokenMerging | None) -> Iterator[None]:
    """Calls in which the tokens of `transformers` are merged before self-attention; None merges nothing.

    All calls with one `merging` are of one run: its draws go on from call to call.
    """
    hooks: list[RemovableHandle] = []
    try:
        if merging is not None:
            for transformer in transformers:
                hooks += _attach(transformer, merging)
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _attach(transformer: SpatialTransformer, merging: TokenMerging) -> Iterator[RemovableHandle]:
    size = (0, 0)  # of the map
    groups = Groups(torch.empty(0, 0), 0)  # of the tokens that a block is at

    def measure(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal size
        height, width = inputs[0].shape[-2:]
        size = (height, width)

    def group(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal groups
        groups = merging.groups(inputs[0], *size)

    def merge(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return groups.merge(inputs[0]), *inputs[1:]

    def unmerge(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return groups.unmerge(output)

    yield transformer.register_forward_pre_hook(measure)
    for block in transformer.blocks:
        assert isinstance(block, TransformerBlock)
        yield block.register_forward_pre_hook(group)
        yield block.attn1.register_forward_pre_hook(merge)
        yield block.attn1.register_forward_hook(unmerge)
