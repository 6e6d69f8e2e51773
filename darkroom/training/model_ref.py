"""The model that a recipe begins with: anything that `-m` takes, or `NAME:fresh` for new weights of a system of the
catalogue or of a file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from darkroom.checkpoints.first_stage import load_first_stage
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.native import load_strict, read_network
from darkroom.checkpoints.open_file import open_weights
from darkroom.errors import InputError, require
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.nn.lean import make_lean
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.picturebook import PICTUREBOOK
from darkroom.systems.system import System
from darkroom.systems.system_file import find_system

__all__ = [
    "FRESH",
    "around_first_stage",
    "is_exported",
    "let_learn",
    "load_model_ref",
    "read_first_stage",
    "require_known",
    "system_of",
]

FRESH = ":fresh"


def system_of(model: str) -> System | None:
    """The system of `NAME:fresh` or `FILE:fresh`; None for a model that must be read to know it. `InputError` for an
    unknown name."""
    return find_system(model.removesuffix(FRESH)) if model.endswith(FRESH) else None


def load_model_ref(model: str, vae: str | None, ema: str, device: str) -> LatentDiffusion:
    """The system in float32 on the CPU, its parameters learning as a fresh system's do.

    `vae`: another first stage, as a recipe of this project exported it or in a file or folder of any layout.
    """
    system = system_of(model)
    if system is None:
        found = load_checkpoint(model, torch.float32, "cpu", ema=ema).model
        if vae is not None:
            found.autoencoder = _first_stage(vae, found.system)
            found.system = replace(found.system, autoencoder=found.autoencoder.config)
    elif vae is not None:
        stage = _first_stage(vae, system)
        found = build(replace(system, autoencoder=stage.config))  # it may be of another width
        found.autoencoder = stage
    else:
        found = build(system)
    if os.path.isfile(described := model.removesuffix(FRESH)):
        found.conditioner.look_in(Path(described).parent)  # vocabularies may lie beside the description
    make_lean(found.autoencoder)  # it never learns here
    return let_learn(found)


def let_learn(model: LatentDiffusion) -> LatentDiffusion:
    """`model` with its parameters learning as a fresh system's do."""
    for name, p in build(model.system, "meta").named_parameters():
        model.get_parameter(name).requires_grad_(p.requires_grad)
    return model.train()


def _first_stage(name: str, system: System) -> Autoencoder:
    """`InputError` if its latents are not what `system` denoises."""
    path = Path(name)
    if not is_exported(path):
        return load_first_stage(name, system.autoencoder, torch.float32)
    config, state = read_network(path, AutoencoderConfig)
    for key in ("factor", "latent_channels"):
        found, expected = getattr(config, key), getattr(system.autoencoder, key)
        require(found == expected, f"the {key} of {path}", found, f"{expected} for {system.name}")
    stage = Autoencoder(config)
    load_strict(stage, state, path)
    return stage


def read_first_stage(name: str) -> tuple[AutoencoderConfig, dict[str, Tensor]]:
    """The configuration and the float32 state dict of a first stage that a recipe exported, or of that of a model, any
    that `-m` takes. `InputError` naming file and cause."""
    if is_exported(Path(name)):
        return read_network(Path(name), AutoencoderConfig)
    stage = load_checkpoint(name, torch.float32).model.autoencoder
    return stage.config, stage.state_dict()


def around_first_stage(path: Path) -> LatentDiffusion:
    """A model, in float32 on the CPU, whose first stage is the one that a recipe exported to the file at `path`; all
    else is new and of the picture-book system."""
    config, state = read_network(path, AutoencoderConfig)
    model = build(replace(PICTUREBOOK, name=path.stem, autoencoder=config))
    load_strict(model.autoencoder, state, path)
    make_lean(model.autoencoder)
    return model.eval()


def is_exported(path: Path) -> bool:
    """Whether the file at `path` is a network that a recipe of this project exported."""
    return os.path.isfile(path) and path.suffix == ".safetensors" and "config" in open_weights(path).metadata


def require_known(model: str) -> None:
    """`InputError` now rather than after minutes if `model` is an unknown name of new weights or an empty text."""
    if not model:
        raise InputError("model is empty: a file, folder, hub id, name or NAME:fresh expected")
    system_of(model)
