"""Which model a name means: the one that ships, or a folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch

from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.native import load_system

__all__ = ["LoadedModel", "load_model"]


@dataclass(frozen=True)
class LoadedModel:
    model: LatentDiffusion
    name: str
    hash: str  # first ten hex digits of the sha256 of the denoiser's file, as A1111 writes them


def load_model(name: str, device: str, dtype: torch.dtype) -> LoadedModel:
    """The system in the folder `name`, or the shipped one called so, ready to run."""
    folder = Path(name)
    shipped = Path(str(files("darkroom"))) / "weights"
    if not folder.is_dir():
        folder = shipped / name
    if not (folder / "system.json").is_file():
        known = ", ".join(sorted(p.parent.name for p in shipped.glob("*/system.json")))
        raise InputError(f"there is no model {name!r}; wanted is the folder of a system or one of: {known}")
    model = load_system(folder, device, dtype)
    if device == "cpu":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    digest = hashlib.sha256((folder / "unet.safetensors").read_bytes()).hexdigest()[:10]
    return LoadedModel(model, folder.name, digest)
