"""Which model a name means, ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from darkroom.checkpoints.fingerprint import model_hash
from darkroom.checkpoints.first_stage import load_first_stage
from darkroom.checkpoints.load import load_checkpoint
from darkroom.diffusion.prediction import find_prediction
from darkroom.errors import InputError
from darkroom.nn.device import find_device
from darkroom.nn.layers import allow_minimal_filtering
from darkroom.nn.memory import enough_memory
from darkroom.nn.precision import fast_half, widen
from darkroom.nn.quantized import find_format
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.quantizing import quantize_system
from darkroom.systems.streaming import stream

__all__ = ["MEMORY", "LoadedModel", "load_model"]

LARGE = 2**20  # values of a weight that is worth keeping narrow
MEMORY = ("auto", "low")


@dataclass(frozen=True)
class LoadedModel:
    """A system and what pictures say of it."""

    model: LatentDiffusion
    name: str
    hashed: Path  # the file whose hash stands for the whole

    @cached_property  # of the file that was loaded, whatever becomes of it
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
    memory: str = "auto",
    compile: bool = False,
    quantize: str | None = None,
) -> LoadedModel:
    """The system that `name` means: a checkpoint's file or folder, the shipped model, or a hub id.

    `vae`: another first stage for it. `prediction`: what the network predicts, against what the file says, in any
    tool's words. `ema`: "yes" insists on the averaged weights, "no" never takes them, "auto" does where they are held.
    `dtype` None: the half precision that is fast on `device`, or else float32 from the weights as they are stored.
    `memory`: "low" holds no more in memory than the work of the moment needs, which takes longer. On a GPU weights stay
    in the host's memory and come block by block; on the CPU they stay narrow and parts that wait leave memory, as
    "auto" does it with huge models. `compile`: the denoiser's blocks become kernels made for the device. `quantize`:
    large linear layers are rounded to "int8" or "fp8" once they are read, and compute in it.
    """
    told = None if prediction is None else find_prediction(prediction)
    if memory not in MEMORY:
        raise InputError(f"unknown memory {memory!r}; known are: {', '.join(MEMORY)}")
    low, on_cpu = memory == "low", find_device(device).type == "cpu"
    if low and compile:
        raise InputError("compiled kernels want their weights in place: take either --compile or --memory low")
    if quantize is not None:
        find_format(quantize, find_device(device))  # refused before anything is read
        if compile or (low and not on_cpu):
            raise InputError("quantized layers are neither compiled nor streamed: take --quantize without the other")
    kind = fast_half(device) if dtype is None else dtype
    place = "cpu" if low else device
    with enough_memory(f"loading {name}"):
        loaded = load_checkpoint(
            name, kind, place, ema=ema, prediction=told, channels_last=on_cpu, needs_stage=vae is None
        )
        model = loaded.model
        if vae is not None:
            model.autoencoder = load_first_stage(vae, model.system.autoencoder, kind, place)
        if quantize is not None:
            quantize_system(model, quantize)
        if kind is None:
            _compute_wide(model, low=low)
        if on_cpu:  # what was not laid out so while it was read
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            model.spares_memory = model.spares_memory or low
        elif low:
            stream(model, device)
    if compile:
        from darkroom.nn.compiled import compile_blocks  # takes seconds to import

        compile_blocks(model.unet, model.device)
        model.compiled = True
    return LoadedModel(model, loaded.path.stem, loaded.hashed)


def _compute_wide(model: LatentDiffusion, *, low: bool) -> None:
    """Compute in float32, as fast as that goes with an error far below that of half precision.

    What runs once a prompt, and networks of over 4 GiB in float32, keep large weights narrow; with `low` all networks.
    """
    widen(model.autoencoder)
    widen(model.conditioner, narrow_from=LARGE)
    huge = low or sum(p.numel() for p in model.unet.parameters()) >= 2**30
    widen(model.unet, narrow_from=LARGE if huge else None)
    model.spares_memory = huge
    allow_minimal_filtering(model)
