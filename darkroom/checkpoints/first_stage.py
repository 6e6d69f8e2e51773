"""First stages on their own: a file or folder in place of the autoencoder that a checkpoint came with."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from darkroom.checkpoints import diffusers, diffusers_names, original, original_names
from darkroom.checkpoints.locate import locate
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.own_folder import is_native
from darkroom.checkpoints.source import weights_of
from darkroom.checkpoints.stored import Stored
from darkroom.checkpoints.table import Rule, rules
from darkroom.checkpoints.transfer import assign, fit
from darkroom.errors import InputError
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.nn.lean import make_lean
from darkroom.systems.empty import empty_modules

__all__ = ["load_first_stage"]

PREFIX = "first_stage_model."


def load_first_stage(
    name: str, config: AutoencoderConfig, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Autoencoder:
    """The autoencoder of shape `config` in a file (alone, or inside a whole checkpoint), a folder of Diffusers (the
    component, or a pipeline with one), a hub id, or what a recipe exported, alone or in a whole model. `InputError`
    naming what is missing, left over or of another shape.
    """
    path = locate(name)
    tensors = _tensors(path)
    with empty_modules():
        stage = Autoencoder(config)
    ours = stage.state_dict()
    found = tensors
    if any(n.startswith("decoder.levels.") for n in tensors):  # as our own recipes export it
        table = [Rule((name,), (name,)) for name in ours]
    elif any(n.startswith(("decoder.up_blocks.", "encoder.down_blocks.")) for n in tensors):
        found = {diffusers_names.modern_name(f"vae/{n}").removeprefix("vae/"): t for n, t in tensors.items()}
        table = rules(diffusers.autoencoder(config), ours)
    else:
        found = {original_names.modern_name(n): t for n, t in tensors.items()}
        table = rules(original.autoencoder(config), ours)
    fit(table, ours, found, optional=(), is_ignored=_is_baggage).require(path, "the first stage of this system")
    assign(stage, table, found, dtype, device)
    make_lean(stage)
    return stage.eval().requires_grad_(False)


def _is_baggage(name: str) -> bool:
    """What training left behind beside the two halves."""
    return not name.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "quantize."))


def _tensors(path: Path) -> dict[str, Stored]:
    if is_native(path):
        return dict(open_weights(path / "autoencoder.safetensors"))
    if os.path.isdir(path):
        inner = next((path / c for c in ("vae", "vqvae") if os.path.isdir(path / c)), path)
        return dict(open_weights(weights_of(inner)))
    weights = dict(open_weights(path))
    inside = {n.removeprefix(PREFIX): t for n, t in weights.items() if n.startswith(PREFIX)}
    found = inside or weights
    if not any(n.startswith("decoder.") for n in found):
        raise InputError(f"{path} holds no first stage: none of its {len(weights)} tensors belongs to a decoder")
    return found
