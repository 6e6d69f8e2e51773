"""TAESD files: the decoder alone with bare numbers, or Diffusers' AutoencoderTiny."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.source import weights_of
from darkroom.checkpoints.stored import Stored
from darkroom.errors import InputError
from darkroom.models.tiny_autoencoder import TinyDecoder
from darkroom.systems.empty import empty_modules

__all__ = ["load_tiny_decoder"]


def load_tiny_decoder(path: Path, device: torch.device | str = "cpu") -> TinyDecoder:
    """`taesd_decoder`, `taesdxl_decoder`, a file of both halves, or a folder of Diffusers; float32."""
    tensors = dict(open_weights(weights_of(path) if os.path.isdir(path) else path))
    ours = _renamed(tensors)
    first = ours.get("layers.0.weight")
    if first is None or len(first.shape) != 4:
        raise InputError(f"{path} is no decoder of TAESD: it lacks the first convolution")
    with empty_modules():
        decoder = TinyDecoder(first.shape[1])
    wanted = {name: tuple(t.shape) for name, t in decoder.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in ours.items()}
    wrong = sorted({n for n, _ in wanted.items() ^ found.items()})
    if wrong:
        raise InputError(
            f"{path} is no decoder of TAESD: {', '.join(wrong[:3])} are missing, unknown or of another shape"
        )
    decoder.load_state_dict({n: t.load(torch.float32, device) for n, t in ours.items()}, assign=True)
    return decoder.eval().requires_grad_(False)


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
