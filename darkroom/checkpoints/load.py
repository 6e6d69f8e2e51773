"""From a user's name for a model to a system that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from darkroom.checkpoints.identify import Identity, identify
from darkroom.checkpoints.locate import locate
from darkroom.checkpoints.lora import apply_loras, read_lora
from darkroom.checkpoints.native import describe_system, load_system
from darkroom.checkpoints.original_names import OPTIONAL
from darkroom.checkpoints.own_folder import base_of, is_native, main_file
from darkroom.checkpoints.source import Source, open_source
from darkroom.checkpoints.statistics import embedding_statistic
from darkroom.checkpoints.transfer import assign
from darkroom.diffusion.prediction import Prediction
from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion, build
from darkroom.systems.system import System

__all__ = ["Loaded", "load", "load_checkpoint", "load_source"]


@dataclass(frozen=True)
class Loaded:
    """A system and where it came from."""

    model: LatentDiffusion
    path: Path
    identity: Identity | None  # None: a folder of this project, which says what it is
    hashed: Path  # the file whose hash stands for the whole


def load(
    model: str | Path,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    *,
    ema: str = "auto",
    prediction: Prediction | None = None,
) -> LatentDiffusion:
    """`load_checkpoint` for callers who only want the system."""
    return load_checkpoint(model, dtype, device, ema=ema, prediction=prediction).model


def load_checkpoint(
    model: str | Path,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    *,
    ema: str = "auto",
    prediction: Prediction | None = None,
    system: System | None = None,
    channels_last: bool = False,
    needs_stage: bool = True,
) -> Loaded:
    """Read `model`: a file, a folder (Diffusers' or this project's), a shipped name or a hub id.

    `dtype` None keeps what is stored. Tensors go one at a time from the mapped file to `device`; nothing is initialised
    first, and what needs no change stays mapped. `channels_last` lays out kernels as convolutions on CPUs want them.
    `needs_stage`: refuse a checkpoint that leaves its first stage to another file; else that one stays without values.
    Raises `InputError` naming file and cause.
    """
    path = locate(str(model))
    if is_native(path):
        base = base_of(path)
        found = load_system(path, device, dtype) if base is None else _adapted(path, base, dtype, device, ema)
        return Loaded(found, path, None, main_file(path))
    source = open_source(path)
    identity = identify(source, system=system, ema=ema, prediction=prediction, hint=str(model))
    if needs_stage:
        identity.require_stage(path)
    loaded = load_source(source, identity, dtype, device, channels_last=channels_last)
    return Loaded(loaded, path, identity, source.main_file)


def _adapted(
    folder: Path, base: str, dtype: torch.dtype | None, device: torch.device | str, ema: str
) -> LatentDiffusion:
    """The system in `folder`: `base` with the LoRA there merged into it."""
    described = describe_system(folder).system
    if is_native(path := locate(base)) and base_of(path) is not None:
        raise InputError(f"the base of {folder} is {base}, a LoRA itself; expected is a model with weights of its own")
    model = load_checkpoint(base, dtype, device, ema=ema).model
    for part in ("unet", "autoencoder", "embedders", "latent_scale"):
        if getattr(model.system, part) != getattr(described, part):
            raise InputError(f"the base of {folder}, {base}, has other {part} than its system.json says")
    apply_loras(model, [(read_lora(main_file(folder), model.system), 1.0, 1.0)], merged=True)
    model.become(described)
    return model


def load_source(
    source: Source,
    identity: Identity,
    dtype: torch.dtype | None,
    device: torch.device | str,
    *,
    channels_last: bool = False,
) -> LatentDiffusion:
    """The system of a source that has been identified."""
    model = build(identity.system, "meta")
    assign(model, identity.rules, source.tensors, dtype, device, channels_last=channels_last)
    folder = source.path if source.layout == "diffusers" else source.path.parent
    _settle(model, folder, dtype, device)
    model.conditioner.look_in(folder)  # vocabularies beside the checkpoint come first
    return model.eval().requires_grad_(False)


def _settle(model: nn.Module, folder: Path, dtype: torch.dtype | None, device: torch.device | str) -> None:
    """Give the statistics of image embeddings, which are not in single files, their values."""
    for name, tensor in model.state_dict().items():
        if tensor.is_meta and not name.startswith("autoencoder."):
            module, leaf = name.rpartition(".")[::2]
            if f"data_{leaf}" not in {o.rpartition(".")[2] for o in OPTIONAL}:
                raise RuntimeError(f"{name} was given no value")
            value = embedding_statistic(name, len(tensor), folder)
            setattr(model.get_submodule(module), leaf, value.to(device, dtype))
