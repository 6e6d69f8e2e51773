"""Name tables between our modules and a foreign layout: written once, read in both directions.

A table maps module names to module names: `{"norm1": "in_layers.0"}`. A `Scope` says where a table applies, and a walk
along the configuration yields all scopes. `rules` completes them with our parameter names and checks that none is left
without a counterpart. Where shapes differ, the entry names a `Change`, a pair of functions that undo each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CONV_1X1", "CONV_1X1_1D", "FUSED_KV", "FUSED_QKV", "ONE_ROW", "SAME", "TRANSPOSED"]
__all__ += ["Change", "Entry", "Rule", "Scope", "Table", "heads_outermost", "rules"]

Tensors = Sequence[Tensor]


@dataclass(frozen=True)
class Change:
    """An inverse pair: tensors of theirs to tensors of ours, and back. Works on any device, "meta" included."""

    to_ours: Callable[[Tensors], Tensors]
    to_theirs: Callable[[Tensors], Tensors]


SAME = Change(lambda x: x, lambda x: x)


def _as_convolution(dimensions: int) -> Change:
    """Ours is a linear layer, theirs a convolution with a kernel of one; biases stay."""

    def widen(x: Tensor) -> Tensor:
        return x.reshape(*x.shape, *[1] * dimensions) if x.dim() == 2 else x

    return Change(lambda x: [t.flatten(1) if t.dim() > 1 else t for t in x], lambda x: [widen(t) for t in x])


CONV_1X1 = _as_convolution(2)
CONV_1X1_1D = _as_convolution(1)
TRANSPOSED = Change(lambda x: [t.mT for t in x], lambda x: [t.mT for t in x])
ONE_ROW = Change(lambda x: [t.flatten() for t in x], lambda x: [t[None] for t in x])  # ours (D,), theirs (1, D)
FUSED_QKV = Change(lambda x: x[0].chunk(3), lambda x: [_joined(x)])  # all q, all k, all v
FUSED_KV = Change(lambda x: x[0].chunk(2), lambda x: [_joined(x)])


def _joined(x: Tensors) -> Tensor:
    """One behind the other along the first axis. On "meta" only the shape counts, and torch's own way of joining there
    imports its compiler, which takes seconds."""
    if x[0].is_meta:
        return x[0].new_empty(sum(len(t) for t in x), *x[0].shape[1:])
    return torch.cat(list(x))


def heads_outermost(heads: int) -> Change:
    """ADM's fused projection (3C, C, 1): rows are q, k, v of head 0, then of head 1 … Ours: q, k and v apart."""

    def to_ours(x: Tensors) -> Tensors:
        fused = x[0].unflatten(0, (heads, 3, -1))  # (heads, 3, d, …)
        return CONV_1X1_1D.to_ours([part.flatten(0, 1) for part in fused.unbind(1)])

    def to_theirs(x: Tensors) -> Tensors:
        parts = [t.unflatten(0, (heads, -1)) for t in CONV_1X1_1D.to_theirs(x)]  # (heads, d, …) each
        joined = _joined([part.transpose(0, 1).flatten(0, 1) for part in parts])  # (3 · d · heads, …)
        return [joined.unflatten(0, (3, -1, heads)).movedim(2, 0).flatten(0, 2)]

    return Change(to_ours, to_theirs)


@dataclass(frozen=True)
class Entry:
    """Their name, and how the tensors change. `{}` in the name is the hole for "weight" or "bias"."""

    name: str
    change: Change = SAME


# Our module, or several modules that theirs holds as one, or one parameter by its full name.
Table = Mapping[str | tuple[str, ...], str | Entry]


@dataclass(frozen=True)
class Scope:
    """`table` applies below the module `ours`, which they call `theirs`."""

    ours: str
    theirs: str
    table: Table


@dataclass(frozen=True)
class Rule:
    """These parameters of ours are those of theirs."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    change: Change = SAME


def rules(scopes: Iterable[Scope], names: Iterable[str]) -> list[Rule]:
    """One rule for every parameter in `names` (ours). A name without a scope is a mistake in a table."""
    group: dict[str, tuple[tuple[str, ...], str, Change]] = {}
    for scope in scopes:
        for ours, theirs in scope.table.items():
            entry = theirs if isinstance(theirs, Entry) else Entry(theirs)
            members = tuple(_join(scope.ours, name) for name in ((ours,) if isinstance(ours, str) else ours))
            group.update((member, (members, _join(scope.theirs, entry.name), entry.change)) for member in members)
    result: list[Rule] = []
    seen: set[str] = set()
    for name in names:
        if name in seen:
            continue
        if name in group:
            members, theirs, change = group[name]
        else:
            module, _, leaf = name.rpartition(".")
            if module not in group:
                raise KeyError(f"no table has a counterpart for {name}")
            modules, theirs, change = group[module]
            members = tuple(f"{m}.{leaf}" for m in modules)
            theirs = theirs.format(leaf) if "{}" in theirs else f"{theirs}.{leaf}"
        seen.update(members)
        result.append(Rule(members, (theirs,), change))
    return result


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name
