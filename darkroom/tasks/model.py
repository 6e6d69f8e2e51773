"""Which model a name means, ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from darkroom.checkpoints.fingerprint import model_hash
from darkroom.checkpoints.first_stage import load_first_stage
from darkroom.checkpoints.load import load_checkpoint
from darkroom.checkpoints.prediction import PREDICTIONS
from darkroom.errors import InputError
from darkroom.nn.layers import allow_minimal_filtering
from darkroom.nn.precision import fast_half, widen
from darkroom.systems.build import LatentDiffusion

__all__ = ["LoadedModel", "load_model"]

LARGE = 2**20  # values of a weight that is worth keeping narrow


@dataclass(frozen=True)
class LoadedModel:
    """A system and what pictures say of it."""

    model: LatentDiffusion
    name: str
    hashed: Path  # the file whose hash stands for the whole

    @property
    def hash(self) -> str:
        """Ten hex digits of the sha256 of the denoiser's file, as A1111 writes them; read when first asked for."""
        return model_hash(self.hashed)


def load_model(
    name: str,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    vae: str | None = None,
    prediction: str | None = None,
    ema: str = "auto",
) -> LoadedModel:
    """The system that `name` means: a checkpoint's file or folder, the shipped model, or a hub id.

    `vae`: another first stage for it. `prediction`: what the network predicts, against what the file says, in any
    tool's words. `ema`: "yes" insists on the averaged weights, "no" never takes them, "auto" does where they are held.
    `dtype` None: the half precision that is fast on `device`, or else float32 from the weights as they are stored.
    """
    if prediction is not None and prediction not in PREDICTIONS:
        raise InputError(f"unknown prediction {prediction!r}; known are: {', '.join(PREDICTIONS)}")
    told = None if prediction is None else PREDICTIONS[prediction]
    kind = fast_half(device) if dtype is None else dtype
    on_cpu = torch.device(device).type == "cpu"
    loaded = load_checkpoint(name, kind, device, ema=ema, prediction=told, channels_last=on_cpu)
    model = loaded.model
    if vae is not None:
        model.autoencoder = load_first_stage(vae, model.system.autoencoder, kind, device)
    if kind is None:
        _compute_wide(model)
    if on_cpu:  # what was not laid out so while it was read
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedModel(model, loaded.path.stem, loaded.hashed)


def _compute_wide(model: LatentDiffusion) -> None:
    """Compute in float32, as fast as that goes with an error far below that of half precision.

    What runs once a prompt, and networks of over 4 GiB in float32, keep large weights narrow.
    """
    widen(model.autoencoder)
    widen(model.conditioner, narrow_from=LARGE)
    huge = sum(p.numel() for p in model.unet.parameters()) >= 2**30
    widen(model.unet, narrow_from=LARGE if huge else None)
    model.spares_memory = huge
    allow_minimal_filtering(model)
