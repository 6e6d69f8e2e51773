"""The networks that metrics look through, from the files in which they are published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from darkroom.checkpoints.clip_names import transformers_text, transformers_vision
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.source import weights_of
from darkroom.checkpoints.stored import Weights
from darkroom.checkpoints.table import Scope, Table, rules
from darkroom.checkpoints.transfer import assign, fit
from darkroom.errors import InputError, cause
from darkroom.json_file import read_json
from darkroom.models.clip import ClipTextConfig, ClipTextTower
from darkroom.models.inception import Inception
from darkroom.models.tower import Activation
from darkroom.models.vision import VisionConfig, VisionTower
from darkroom.systems.empty import empty_modules

__all__ = ["Clip", "load_clip", "load_inception"]

M = TypeVar("M", bound=nn.Module)


def load_inception(path: Path, device: torch.device | str = "cpu") -> Inception:
    """From `pt_inception-2015-12-05`, as pytorch-fid and torch-fidelity publish it; `InputError` for anything else."""
    with empty_modules():
        network = Inception()
    available = open_weights(path)
    table: Table = {name: name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    names = rules([Scope("", "", table)], [str(name) for name in table])
    found = fit(names, network.state_dict(), available, is_ignored=lambda n: n.endswith("num_batches_tracked"))
    found.require(path, "the Inception network of the FID")
    assign(network, names, available, torch.float32, device)
    for module in network.modules():  # a count of training steps, which nothing reads
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = None
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class Clip:
    """Both towers of one model; their embeddings lie in one space."""

    text: ClipTextTower
    vision: VisionTower
    folder: Path  # where its vocabulary is looked for first
    weights: Path


def load_clip(folder: Path, device: torch.device | str = "cpu") -> Clip:
    """From a folder of transformers' CLIPModel (config.json beside the weights), as the hub has OpenAI's."""
    if os.path.isfile(folder):
        folder = folder.parent
    config = read_json(folder / "config.json")
    weights = weights_of(folder)
    available = open_weights(weights)
    try:
        text, vision = _clip_configs(config)
        with empty_modules():
            towers = ClipTextTower(text), VisionTower(vision)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, RuntimeError) as error:
        raise InputError(f"{folder / 'config.json'} describes no CLIP model: {cause(error)}") from None
    for tower, places, parts in (
        (towers[0], transformers_text(text), ("text_model.", "text_projection.")),
        (towers[1], transformers_vision(vision), ("vision_model.", "visual_projection.")),
    ):
        inside = Weights(weights, {n: t for n, t in available.items() if n.startswith(parts)})
        names = rules(places, tower.state_dict())
        found = fit(names, tower.state_dict(), inside, is_ignored=lambda n: n.endswith("position_ids"))
        found.require(weights, "the CLIP model that its config.json describes")
        assign(tower, names, inside, torch.float32, device)
        tower.eval().requires_grad_(False)
    return Clip(*towers, folder, weights)


def _clip_configs(config: Mapping[str, Any]) -> tuple[ClipTextConfig, VisionConfig]:
    """What transformers leaves out of the file has its default there: ViT-B/32."""
    text, vision = config["text_config"], config["vision_config"]
    projection = int(config.get("projection_dim", 512))
    return (
        ClipTextConfig(
            width=int(text.get("hidden_size", 512)),
            layers=int(text.get("num_hidden_layers", 12)),
            heads=int(text.get("num_attention_heads", 8)),
            activation=_activation(text),
            projection=projection,
            vocabulary=int(text.get("vocab_size", 49408)),
            length=int(text.get("max_position_embeddings", 77)),
        ),
        VisionConfig(
            width=int(vision.get("hidden_size", 768)),
            layers=int(vision.get("num_hidden_layers", 12)),
            heads=int(vision.get("num_attention_heads", 12)),
            activation=_activation(vision),
            projection=projection,
            patch=int(vision.get("patch_size", 32)),
            image_size=int(vision.get("image_size", 224)),
        ),
    )


def _activation(config: Mapping[str, Any]) -> Activation:
    name = config.get("hidden_act", "quick_gelu")
    if name not in ("quick_gelu", "gelu"):
        raise ValueError(f"activation {name!r}")
    return name
