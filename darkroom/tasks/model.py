"""Which model a name means, ready to run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from darkroom.checkpoints.load import load_checkpoint
from darkroom.systems.build import LatentDiffusion

__all__ = ["LoadedModel", "load_model"]


@dataclass(frozen=True)
class LoadedModel:
    model: LatentDiffusion
    name: str
    hash: str  # first ten hex digits of the sha256 of the denoiser's file, as A1111 writes them


def load_model(name: str, device: str, dtype: torch.dtype) -> LoadedModel:
    """The system that `name` means: a checkpoint's file or folder, the shipped model, or a hub id."""
    loaded = load_checkpoint(name, dtype, device)
    model = loaded.model
    if torch.device(device).type == "cpu":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedModel(model, loaded.path.stem, loaded.hash)
