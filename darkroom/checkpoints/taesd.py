"""TAESD files: the decoder alone with bare numbers, or Diffusers' AutoencoderTiny."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.own_folder import is_native
from darkroom.checkpoints.safetensors_file import write_safetensors
from darkroom.checkpoints.source import weights_of
from darkroom.checkpoints.stored import Stored
from darkroom.errors import InputError
from darkroom.models.tiny_autoencoder import TinyDecoder
from darkroom.systems.empty import empty_modules
from darkroom.whole_file import made_folder

__all__ = ["decoder_beside", "load_tiny_decoder", "write_tiny_decoder"]

NAME = "taesd_decoder.safetensors"  # in a model's folder; STEM.taesd_decoder.safetensors beside a single file
PER_LEVEL = 5  # entries of the sequence
MOST_LEVELS = 6


def load_tiny_decoder(path: Path, device: torch.device | str = "cpu") -> TinyDecoder:
    """`taesd_decoder`, `taesdxl_decoder`, a file of both halves, a folder of Diffusers, or what the preview recipe
    exports; float32."""
    tensors = dict(open_weights(weights_of(path) if os.path.isdir(path) else path))
    ours = _renamed(tensors)
    first = ours.get("layers.0.weight")
    if first is None or len(first.shape) != 4:
        raise InputError(f"{path} is no decoder of TAESD: it lacks the first convolution")
    last = max(int(number) for name in ours if (number := name.split(".")[1]).isdigit())
    with empty_modules():
        decoder = TinyDecoder(first.shape[1], levels=min((last - 3) // PER_LEVEL, MOST_LEVELS), width=first.shape[0])
    expected = {name: tuple(t.shape) for name, t in decoder.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in ours.items()}
    wrong = sorted({n for n, _ in expected.items() ^ found.items()})
    if wrong:
        raise InputError(
            f"{path} is no decoder of TAESD: {', '.join(wrong[:3])} are missing, unknown or of another shape"
        )
    decoder.load_state_dict({n: t.load(torch.float32, device) for n, t in ours.items()}, assign=True)
    return decoder.eval().requires_grad_(False)


def write_tiny_decoder(folder: Path, decoder: TinyDecoder, metadata: Mapping[str, str]) -> Path:
    """Write `decoder` under the names and the file name of TAESD's decoder, whole or not at all. Returns its path."""
    tensors = {}
    for name, tensor in decoder.state_dict().items():
        _, number, rest = name.split(".", 2)
        tensors[f"{int(number) + 1}.{rest}"] = tensor.detach().to("cpu", torch.float32).contiguous()
    made_folder(folder)
    write_safetensors(folder / NAME, tensors, metadata)
    return folder / NAME


def decoder_beside(weights: Path) -> Path | None:
    """The tiny decoder that lies in the folder of a model, or beside its single file; None where there is none.

    `weights`: the model's only file, or its denoiser's in a folder of this project or of Diffusers.
    """
    folder = weights.parent.parent if weights.parent.name == "unet" else weights.parent
    whole = weights.parent.name == "unet" or is_native(folder)
    path = folder / NAME if whole else weights.with_name(f"{weights.stem}.{NAME}")
    return path if os.path.isfile(path) else None


def _renamed(tensors: dict[str, Stored]) -> dict[str, Stored]:
    """Names below the decoder as ours. The original counts the bending of far latents as layer 0."""
    if any(n.startswith("decoder.layers.") for n in tensors):
        return {n.removeprefix("decoder."): t for n, t in tensors.items() if n.startswith("decoder.")}
    inside = {n.removeprefix("decoder."): t for n, t in tensors.items() if n.startswith("decoder.")} or tensors
    result = {}
    for name, stored in inside.items():
        number, _, rest = name.partition(".")
        result[f"layers.{int(number) - 1}.{rest}" if number.isdigit() else name] = stored
    return result
