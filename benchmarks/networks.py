"""One network twice: ours and the peer's, with the same random weights in the same memory."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from darkroom.checkpoints import diffusers
from darkroom.checkpoints.diffusers_config import component_configs
from darkroom.checkpoints.table import rules
from darkroom.systems.build import build
from darkroom.systems.system import System

__all__ = ["Pair", "pair", "randomise"]


@dataclass(frozen=True)
class Pair:
    ours: nn.Module
    peer: nn.Module


def pair(system: System, component: str, dtype: torch.dtype, device: torch.device) -> Pair:
    """`component` is the peer's name: "unet", "vae", "text_encoder" or "text_encoder_2"."""
    part = next(p for p in diffusers.parts(system) if p.theirs == f"{component}/")
    ours = build(system, "meta").get_submodule(part.ours).to(dtype).to_empty(device=device)
    randomise(ours)
    state = ours.state_dict()
    shared = {}
    for rule in rules(part.scopes, state):
        shared.update(zip(rule.theirs, rule.change.to_theirs([state[name] for name in rule.ours])))
    config = component_configs(system)[component]
    kind = getattr(importlib.import_module("diffusers" if "_class_name" in config else "transformers"), _name(config))
    with torch.device("meta"):
        peer = kind.from_config(config) if "_class_name" in config else kind(kind.config_class.from_dict(config))
    known = peer.state_dict()  # newer releases of transformers leave out the outermost name in memory
    peer.load_state_dict({n if n in known else n.partition(".")[2]: t for n, t in shared.items()}, assign=True)
    _fill_buffers(peer, device)
    return Pair(ours.eval().requires_grad_(False), peer.eval().requires_grad_(False))


def _name(config: dict[str, Any]) -> str:
    return config.get("_class_name") or config["architectures"][0]


def randomise(module: nn.Module) -> None:
    """Weights that keep the size of what passes, none of them zero."""
    generator = torch.Generator(next(module.parameters()).device).manual_seed(0)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 0.02 if "embed" in name else p[0].numel() ** -0.5, generator=generator)
            else:
                p.normal_(1.0 if name.endswith("weight") else 0.0, 0.1, generator=generator)


def _fill_buffers(peer: nn.Module, device: torch.device) -> None:
    """Position numbers are no weights and so have no values yet."""
    for name, buffer in peer.named_buffers():
        if buffer.is_meta:
            module, leaf = name.rpartition(".")[::2]
            value = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
            peer.get_submodule(module).register_buffer(leaf, value, persistent=False)
