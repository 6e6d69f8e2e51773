"""Adapters that a recipe trains in place of the weights themselves."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from darkroom.checkpoints.lora import read_lora, write_lora
from darkroom.checkpoints.lora_names import adaptable_layers, kohya_names
from darkroom.checkpoints.own_folder import ADAPTERS
from darkroom.errors import InputError, require
from darkroom.nn.lora import Adapter, Hadamard, Kronecker, LowRank, attach
from darkroom.systems.build import LatentDiffusion
from darkroom.whole_file import made_folder

__all__ = ["AdapterConfig", "as_module", "attach_trained", "write_adapters"]

# Names of layers: all within the transformers of the UNet, as kohya's trainers take by default; of text encoders those
# of attention.
ATTENTION, TEXT = re.compile(r"unet\..*attention"), re.compile(r"conditioner\..*\.to_(q|k|v|out)")


@dataclass(frozen=True)
class AdapterConfig:
    """LoRA (arXiv:2106.09685); DoRA (arXiv:2402.09353), which also learns the length of each output's weights; LoHa
    (arXiv:2108.06098), LoKr (arXiv:2212.10650)."""

    rank: int
    alpha: float | None = None  # the change is alpha / rank times the product; as much as the rank when not given
    layers: Literal["attention", "all"] = "attention"  # of the UNet: attention with its projections, or every layer
    text: bool = False  # the text encoder's attention, too
    kind: Literal["lora", "dora", "loha", "lokr"] = "lora"
    factor: int | None = None  # of "lokr": the side of the smaller matrix, the nearest to a square root when not given
    # A LoRA to go on from, or an export's folder: of the same kind, layers and alpha / rank. Where it has a lower rank,
    # what is new begins as nothing.
    initial: Path | None = None

    def __post_init__(self) -> None:
        require(1 <= self.rank <= 4096, "rank", self.rank, "1 to 4096")
        lokr = self.factor is None or (self.kind == "lokr" and self.factor >= 1)
        require(lokr, "factor", self.factor, 'a whole number from 1 up, beside kind = "lokr"')
        require(self.alpha is None or self.alpha > 0, "alpha", self.alpha, "a number above 0")


def attach_trained(model: LatentDiffusion, config: AdapterConfig) -> dict[str, Adapter]:
    """Adapters that learn, live on `model`, by the names of the layers that they adapt.

    Fresh ones, which change nothing yet, or those of `config.initial`; `InputError` where the recipe asks for others.
    """
    names = kohya_names(model.system)
    chosen = [
        name
        for name, layer in adaptable_layers(model.system).items()
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and name in names and _is_chosen(name, config)
    ]
    if not chosen:
        raise InputError(f"{model.system.name} has no layers that a LoRA file has names for")
    adapters = {name: _fresh(model.get_submodule(name), config).requires_grad_(True) for name in chosen}
    if config.initial is not None:
        _begin_as(adapters, config.initial, model)
    attach(model, adapters)
    return adapters


def as_module(adapters: Mapping[str, Adapter]) -> nn.ModuleDict:
    """Adapters by layers' names, as checkpoints hold them."""
    return nn.ModuleDict({name.replace(".", "/"): adapter for name, adapter in adapters.items()})


def _begin_as(adapters: Mapping[str, Adapter], initial: Path, model: LatentDiffusion) -> None:
    """Give fresh adapters the numbers of the file `initial`."""
    path = initial / ADAPTERS if os.path.isdir(initial) else initial
    found = read_lora(path, model.system, torch.float32).adapters
    if found.keys() != adapters.keys():
        lacking, beyond = sorted(adapters.keys() - found.keys()), sorted(found.keys() - adapters.keys())
        name, whose = (lacking[0], "lacks") if lacking else (beyond[0], "also adapts")
        raise InputError(f"adapter.initial: {path} {whose} {name}, expected are the layers that this recipe adapts")
    for name, adapter in adapters.items():
        theirs, layer = found[name], cast(Any, model.get_submodule(name))
        state = theirs.state_dict()
        if isinstance(adapter, LowRank):
            state = _widened(adapter, state)
        if "magnitude" in state and len(state["magnitude"]) == len(layer.weight):
            state["magnitude"] = state["magnitude"].flatten()
        ours, given = _shapes(adapter, adapter.state_dict()), _shapes(theirs, state)
        if ours != given:
            raise InputError(f"adapter.initial: {path} has {given} for {name}, expected is {ours} by this recipe")
        if not math.isclose(adapter.scale, theirs.scale, rel_tol=1e-3):
            scales = f"{theirs.scale:g}, expected is alpha / rank = {adapter.scale:g}"
            raise InputError(f"adapter.initial: {path} scales {name} by {scales}")
        adapter.load_state_dict(state)


def _widened(adapter: LowRank, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state`, of a LoRA of a lower rank, with as many factors as the fresh `adapter` has."""
    factors = {name: t.detach().clone() for name, t in (("down", adapter.down), ("up", adapter.up))}
    down, up = (state.get(name) for name in factors)
    if down is None or up is None or len(down) >= len(factors["down"]):
        return state
    if down[0].shape != factors["down"][0].shape or len(up) != len(factors["up"]):
        return state  # of another layer
    factors["down"][: len(down)] = down
    factors["up"][:, : len(down)] = up
    return {**state, **factors}


def _shapes(adapter: Adapter, state: Mapping[str, Tensor]) -> str:
    parts = ", ".join(f"{name} {'×'.join(map(str, t.shape))}" for name, t in sorted(state.items()))
    return f"{type(adapter).__name__} ({parts})"


def _fresh(layer: Any, config: AdapterConfig) -> Adapter:
    rank = min(config.rank, *layer.weight.flatten(1).shape)
    if config.kind == "loha":
        return Hadamard.fresh(layer, rank, config.alpha)
    if config.kind == "lokr":
        return Kronecker.fresh(layer, rank, config.alpha, config.factor)
    adapter = LowRank.fresh(layer, rank, config.alpha)
    if config.kind == "dora":
        axes = [*range(1, layer.weight.dim())]
        adapter.magnitude = nn.Parameter(torch.linalg.vector_norm(layer.weight.detach().float(), dim=axes))
    return adapter


def write_adapters(
    path: Path, adapters: Mapping[str, Adapter], model: LatentDiffusion, metadata: Mapping[str, str]
) -> None:
    """The adapters as a LoRA file that other tools read."""
    made_folder(path.parent)
    write_lora(path, adapters, model.system, metadata)


def _is_chosen(name: str, config: AdapterConfig) -> bool:
    if name.startswith("conditioner."):
        return config.text and TEXT.fullmatch(name) is not None
    return config.layers == "all" or ATTENTION.match(name) is not None
