"""Which model a name means, ready to run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from darkroom.checkpoints.first_stage import load_first_stage
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.prediction import PREDICTIONS
from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion

__all__ = ["LoadedModel", "load_model"]


@dataclass(frozen=True)
class LoadedModel:
    model: LatentDiffusion
    name: str
    hash: str  # first ten hex digits of the sha256 of the denoiser's file, as A1111 writes them


def load_model(
    name: str,
    device: str,
    dtype: torch.dtype,
    *,
    vae: str | None = None,
    prediction: str | None = None,
    ema: str = "auto",
) -> LoadedModel:
    """The system that `name` means: a checkpoint's file or folder, the shipped model, or a hub id.

    `vae`: another first stage for it. `prediction`: what the network predicts, against what the file says, in any
    tool's words. `ema`: "yes" insists on the averaged weights, "no" never takes them, "auto" does where they are held.
    """
    if prediction is not None and prediction not in PREDICTIONS:
        raise InputError(f"unknown prediction {prediction!r}; known are: {', '.join(PREDICTIONS)}")
    told = None if prediction is None else PREDICTIONS[prediction]
    loaded = load_checkpoint(name, dtype, device, ema=ema, prediction=told)
    model = loaded.model
    if vae is not None:
        model.autoencoder = load_first_stage(vae, model.system.autoencoder, dtype, device)
    if torch.device(device).type == "cpu":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedModel(model, loaded.path.stem, loaded.hash)
