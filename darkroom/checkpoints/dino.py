"""DINOv2's weights under their two namings: the release's `.pth` and transformers' folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.stored import Stored
from darkroom.checkpoints.table import FUSED_QKV, Entry, Scope, Table, rules
from darkroom.checkpoints.transfer import assign, fit
from darkroom.errors import InputError
from darkroom.models.dino import Dino, DinoConfig
from darkroom.systems.empty import empty_modules

__all__ = ["load_dino", "released_dino", "transformers_dino"]

HEAD_DIM = 64  # of every size
UNUSED = ("mask_token", "embeddings.mask_token")  # only training reads it


def released_dino(config: DinoConfig) -> Iterator[Scope]:
    """`dinov2_vits14_pretrain.pth` and its siblings."""
    ends: Table = {
        "class_token": "cls_token",
        "registers": "register_tokens",
        "patch_embedding": "patch_embed.proj",
        "position_embedding": "pos_embed",
        "norm": "norm",
    }
    layer: Table = {
        "norm1": "norm1",
        ("to_q", "to_k", "to_v"): Entry("attn.qkv", FUSED_QKV),
        "to_out": "attn.proj",
        "norm2": "norm2",
        "ff_in": "mlp.fc1",
        "ff_out": "mlp.fc2",
        "scale1": "ls1.gamma",
        "scale2": "ls2.gamma",
    }
    yield Scope("", "", ends)
    for i in range(config.layers):
        yield Scope(f"layers.{i}", f"blocks.{i}", layer)


def transformers_dino(config: DinoConfig) -> Iterator[Scope]:
    """Dinov2Model and Dinov2WithRegistersModel."""
    ends: Table = {
        "class_token": "embeddings.cls_token",
        "registers": "embeddings.register_tokens",
        "patch_embedding": "embeddings.patch_embeddings.projection",
        "position_embedding": "embeddings.position_embeddings",
        "norm": "layernorm",
    }
    layer: Table = {
        "norm1": "norm1",
        "to_q": "attention.attention.query",
        "to_k": "attention.attention.key",
        "to_v": "attention.attention.value",
        "to_out": "attention.output.dense",
        "norm2": "norm2",
        "ff_in": "mlp.fc1",
        "ff_out": "mlp.fc2",
        "scale1": "layer_scale1.lambda1",
        "scale2": "layer_scale2.lambda1",
    }
    yield Scope("", "", ends)
    for i in range(config.layers):
        yield Scope(f"layers.{i}", f"encoder.layer.{i}", layer)


def load_dino(path: Path, device: torch.device | str = "cpu") -> Dino:
    """The frozen network in the file, float32, of whatever width and depth it is; a folder: its `model.safetensors`.

    Raises `InputError` if it is anything else.
    """
    file = path / "model.safetensors" if os.path.isdir(path) else path
    available = open_weights(file)
    released = "cls_token" in available
    config = _config(file, available, released=released)
    with empty_modules():
        network = Dino(config)
    names = rules((released_dino if released else transformers_dino)(config), network.state_dict())
    fitting = fit(names, network.state_dict(), available, is_ignored=lambda name: name in UNUSED)
    fitting.require(file, "a DINOv2 network")
    assign(network, names, available, torch.float32, device)
    return network.eval().requires_grad_(False)


def _config(file: Path, available: Mapping[str, Stored], *, released: bool) -> DinoConfig:
    """What the shapes in the file tell."""
    names = ("cls_token", "pos_embed", "patch_embed.proj.weight", "register_tokens", "blocks.{}.norm1.weight")
    if not released:
        names = (
            *("embeddings.cls_token", "embeddings.position_embeddings"),
            *("embeddings.patch_embeddings.projection.weight", "embeddings.register_tokens"),
            "encoder.layer.{}.norm1.weight",
        )
    whole, positions, patches, registers, layer = names
    if any(name not in available for name in (whole, positions, patches)):
        raise InputError(f"{file} does not hold DINOv2's weights: {whole}, {positions} and {patches} are expected")
    width, patch = available[whole].shape[-1], available[patches].shape[-1]
    layers = next(i for i in range(len(available) + 1) if layer.format(i) not in available)
    side = round((available[positions].shape[1] - 1) ** 0.5)
    return DinoConfig(
        width,
        layers,
        max(1, width // HEAD_DIM),
        registers=available[registers].shape[1] if registers in available else 0,
        patch=patch,
        image_size=side * patch,
    )
