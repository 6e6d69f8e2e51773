"""Which network of a system lies where in a layout, and the complete rules that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from darkroom.checkpoints.table import Rule, Scope, rules

__all__ = ["Part", "complete"]


@dataclass(frozen=True)
class Part:
    """One network: its module in `LatentDiffusion` and what precedes its names in the foreign layout."""

    ours: str
    theirs: str  # with the separator: "first_stage_model." or, in a folder, "vae/"
    scopes: tuple[Scope, ...]


def complete(parts: Iterable[Part], names: Iterable[str]) -> list[Rule]:
    """The rules for all parameters in `names` (of the whole system), each in exactly one part."""
    remaining = list(names)
    result: list[Rule] = []
    for part in parts:
        inside = [n.removeprefix(part.ours + ".") for n in remaining if n.startswith(part.ours + ".")]
        remaining = [n for n in remaining if not n.startswith(part.ours + ".")]
        for rule in rules(part.scopes, inside):
            ours = tuple(f"{part.ours}.{name}" for name in rule.ours)
            result.append(Rule(ours, tuple(part.theirs + name for name in rule.theirs), rule.change))
    if remaining:
        raise KeyError(f"no part holds {remaining[0]}")
    return result
