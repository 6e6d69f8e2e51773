"""What multiplies a LoRA where its own tensors do not say: PEFT's configuration, beside the file or in its metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.checkpoints.pattern import PatternTable
from darkroom.checkpoints.stored import Weights
from darkroom.errors import InputError, printable
from darkroom.json_file import parse_table, read_json, real, whole

__all__ = ["Stated", "StatedScales", "stated_scales"]

PEFT_FILES = ("adapter_model.safetensors", "adapter_model.bin")  # what adapter_config.json speaks for
METADATA = "lora_adapter_metadata"  # where Diffusers puts the same table
COMPONENTS = ("unet", "text_encoder_2", "text_encoder")  # before the names in its table, and before its keys
OFT_TERMS = 5  # PEFT's own
MOST_TERMS = 100


@dataclass(frozen=True)
class Stated:
    """What is said of one layer. `rank`: the one that was asked for; factors may be narrower."""

    alpha: float | None = None
    rank: int | None = None
    rooted: bool = False  # alpha is divided by the root of the rank (arXiv:2312.03732)
    oft_terms: int = OFT_TERMS  # of the series for an OFT's rotations; 0: the exact ones
    oft_bound: float | None = None  # of the norm of an OFT's skew blocks


class StatedScales:
    """A table of PEFT: one alpha and one rank for all layers, and patterns for those that have others."""

    def __init__(self, table: Mapping[str, Any], where: str) -> None:
        self._parts = {c: _Part(_below(table, f"{c}."), where) for c in COMPONENTS if _below(table, f"{c}.")}
        self._whole = _Part(table, where)

    def of(self, key: str) -> Stated:
        """Of the layer `key`, as the file calls it. Raises `InputError` for an alpha that is no number."""
        name = key.removeprefix("base_model.model.")
        component = next((c for c in COMPONENTS if name.startswith(f"{c}.")), None)
        part = self._whole if component is None else self._parts.get(component, self._whole)
        return part.of(name if component is None else name.removeprefix(f"{component}."))


def _below(table: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in table.items() if name.startswith(prefix)}


class _Part:
    """The table of one network."""

    def __init__(self, table: Mapping[str, Any], where: str) -> None:
        self.where = where
        self.alpha, self.rank = table.get("lora_alpha", table.get("alpha")), table.get("r")
        self.rooted = table.get("use_rslora") is True
        terms = whole(table.get("num_cayley_neumann_terms", OFT_TERMS))
        if terms is None or not 1 <= terms <= MOST_TERMS:
            raise InputError(f"{where}: num_cayley_neumann_terms is {terms}, expected is 1 to {MOST_TERMS}")
        self.oft_terms = 0 if table.get("use_cayley_neumann") is False else terms
        self.oft_bound = real(table.get("eps")) if table.get("coft") is True else None
        self.alphas, self.ranks = (self._patterns(table, f"{what}_pattern") for what in ("alpha", "rank"))

    def _patterns(self, table: Mapping[str, Any], key: str) -> PatternTable:
        patterns = table.get(key)
        if patterns is not None and not isinstance(patterns, dict):
            raise InputError(f"{self.where}: {key} is not a table")
        return PatternTable(patterns or {}, f"{self.where}: {key}")

    def of(self, name: str) -> Stated:
        alpha, rank = self.alphas.first(name, self.alpha), self.ranks.first(name, self.rank)
        if alpha is not None and real(alpha) is None:
            raise InputError(f"{self.where}: alpha of {printable(name)} is {printable(alpha)}, expected is a number")
        return Stated(real(alpha), whole(rank), self.rooted, self.oft_terms, self.oft_bound)


def stated_scales(weights: Weights) -> StatedScales:
    """The table that speaks for `weights`; an empty one if there is none."""
    beside = weights.path.with_name("adapter_config.json")
    if weights.path.name in PEFT_FILES and os.path.isfile(beside):
        return StatedScales(read_json(beside), str(beside))
    where = f"{weights.path}: {METADATA}"
    return StatedScales(parse_table(weights.metadata[METADATA], where) if METADATA in weights.metadata else {}, where)
