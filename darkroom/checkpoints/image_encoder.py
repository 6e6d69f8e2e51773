"""CLIP's vision tower on its own, from a file or a folder: what IP-Adapters look at pictures with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from darkroom.checkpoints.clip_names import openclip_vision, transformers_vision
from darkroom.checkpoints.folders import CONTROLS
from darkroom.checkpoints.locate import locate_file
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.source import weights_of
from darkroom.checkpoints.stored import Stored
from darkroom.checkpoints.table import rules
from darkroom.checkpoints.transfer import assign, fit
from darkroom.errors import InputError
from darkroom.json_file import read_json, whole
from darkroom.models.vision import VisionConfig, VisionTower
from darkroom.systems.empty import empty_modules

__all__ = ["find_image_encoder", "image_encoder_config", "read_image_encoder", "tower_config"]

PREFIXES = ("visual.", "embedder.model.visual.")  # of OpenCLIP, alone and in a whole model
USUAL = "image_encoder"  # the folder beside an adapter
HEADS = {768: 12}  # by the width of the tower; else 16, as ViT-L, -H and -bigG have them
OPENAI = (768, 1024)  # widths of towers that OpenAI trained, with another activation


def find_image_encoder(name: str | None, adapter: Path, folders: Sequence[Path], *, paths: bool = True) -> list[Path]:
    """Where the image encoder `name` lies or, without a name, where it may lie beside the file of the adapter. Without
    `paths` a name is that of a file in `folders`.

    Raises `InputError` naming what was looked for.
    """
    if name is not None:
        path = Path(os.path.expanduser(name))
        is_folder = paths and os.path.isdir(path)
        return [weights_of(path)] if is_folder else [locate_file(CONTROLS, name, folders, paths=paths)]
    homes = (adapter.parent / USUAL, adapter.parent.parent / USUAL, adapter.parent.parent / "models" / USUAL)
    found = [weights_of(home) for home in dict.fromkeys(homes) if os.path.isdir(home)]
    if not found:
        looked = ", ".join(map(str, dict.fromkeys(homes)))
        raise InputError(f"{adapter} is an IP-Adapter and needs an image encoder: none is named, nor is there {looked}")
    return found


def read_image_encoder(path: Path, dtype: torch.dtype | None, device: torch.device | str) -> VisionTower:
    """The tower in the file, with its projection. `InputError` where it is none or is damaged."""
    tensors = _tensors(path)
    config = tower_config(path, tensors)
    with empty_modules():
        tower = VisionTower(config)
    ours = tower.state_dict()
    table = rules((openclip_vision if "class_embedding" in tensors else transformers_vision)(config), ours)
    fit(table, ours, tensors, is_ignored=lambda name: name.endswith("position_ids")).require(path, "an image encoder")
    assign(tower, table, tensors, dtype, device)
    return tower.eval().requires_grad_(False)


def image_encoder_config(path: Path) -> VisionConfig:
    """What the tower in the file is, without reading its weights."""
    return tower_config(path, _tensors(path))


def _tensors(path: Path) -> Mapping[str, Stored]:
    """Those of the tower, without what precedes their names."""
    tensors = open_weights(path)
    prefix = next((p for p in PREFIXES if f"{p}class_embedding" in tensors), None)
    if prefix is not None:
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    if any(name.startswith("vision_model.") for name in tensors):
        return {n: t for n, t in tensors.items() if n.startswith(("vision_model.", "visual_projection."))}
    return tensors


def tower_config(path: Path, tensors: Mapping[str, Stored]) -> VisionConfig:
    """By the shapes of the tensors, and by the configuration beside the file where there is one."""
    original = "class_embedding" in tensors
    names = (
        ("conv1.weight", "transformer.resblocks.", "mlp.c_fc.weight", "positional_embedding", "proj")
        if original
        else (
            *("vision_model.embeddings.patch_embedding.weight", "vision_model.encoder.layers.", "mlp.fc1.weight"),
            *("vision_model.embeddings.position_embedding.weight", "visual_projection.weight"),
        )
    )
    patches, layers, inner, positions, projection = names
    needed = {patches: 4, f"{layers}0.{inner}": 2, positions: 2, projection: 2}  # axes
    if any(n not in tensors or len(tensors[n].shape) != axes or not tensors[n].numel for n, axes in needed.items()):
        raise InputError(f"{path} is no image encoder with a projection, as IP-Adapters need one")
    width, _, _, patch = tensors[patches].shape
    told: Mapping[str, Any] = read_json(beside) if os.path.isfile(beside := path.with_name("config.json")) else {}
    wide = tensors[f"{layers}0.{inner}"].shape[0]
    usual = "quick_gelu" if width in OPENAI else "gelu"
    return VisionConfig(
        width=width,
        layers=len({name.removeprefix(layers).partition(".")[0] for name in tensors if name.startswith(layers)}),
        heads=whole(told.get("num_attention_heads")) or HEADS.get(width, 16),
        activation="quick_gelu" if told.get("hidden_act", usual) == "quick_gelu" else "gelu",
        projection=tensors[projection].shape[1 if original else 0],
        patch=patch,
        image_size=patch * round((tensors[positions].shape[0] - 1) ** 0.5),
        inner=None if wide == 4 * width else wide,
    )
