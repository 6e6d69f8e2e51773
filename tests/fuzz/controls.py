"""Cases for control networks, IP-Adapters and image encoders: sound files of wrong names, shapes and numbers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from narrow_checkpoints import narrow, random_model
from torch import Tensor, nn

from darkroom.checkpoints.clip_names import transformers_vision
from darkroom.checkpoints.control import describe_control, read_control
from darkroom.checkpoints.control_names import adapter_of_tencent, ip_adapter, original_controlnet
from darkroom.checkpoints.image_encoder import image_encoder_config, read_image_encoder
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.table import rules
from darkroom.models.control import cross_attentions
from darkroom.models.controlnet import ControlNet, ControlNetConfig
from darkroom.models.ip_adapter import IPAdapter, IPAdapterConfig, ResamplerConfig
from darkroom.models.t2i_adapter import T2IAdapter, T2IAdapterConfig
from darkroom.models.vision import VisionConfig, VisionTower
from tests.fuzz.mutation import NASTY, json_bytes
from tests.fuzz.run import Case
from tests.fuzz.weights import NAME, mutate_tensors, written

__all__ = ["control_networks", "image_encoders"]

MARKS = ("difference", "lora_controlnet", "task_embedding", "lllite_x", "ip_adapter.1.to_k_ip.weight", "latents")


def _theirs(network: nn.Module, places: Any) -> dict[str, Tensor]:
    """The tensors of `network` under the names of a layout."""
    state, found = network.state_dict(), dict[str, Tensor]()
    for rule in rules(places, state):
        found.update(zip(rule.theirs, rule.change.to_theirs([state[name] for name in rule.ours])))
    return {name: tensor.contiguous().clone() for name, tensor in found.items()}


def _files(model: Any) -> list[dict[str, Tensor]]:
    """A ControlNet, a T2I-Adapter, a plain and a "plus" IP-Adapter, each with a bare minimum of tensors."""
    control = ControlNetConfig(narrow(NAME).unet, hint_widths=(8, 8, 8, 8))
    adapter = T2IAdapterConfig((32, 64, 128, 128), 2, 8, (False, True, True, True))
    widths = tuple(layer.to_k.out_features for layer in cross_attentions(model.unet))
    dim = model.system.unet.context_dim
    prompts = [IPAdapterConfig(24, dim, 4, widths, r) for r in (None, ResamplerConfig(32, 2, 1))]
    return [
        _theirs(ControlNet(control), original_controlnet(control)),
        _theirs(T2IAdapter(adapter), adapter_of_tencent(adapter)),
        *(_theirs(IPAdapter(config), ip_adapter(config, model.system.unet)) for config in prompts),
    ]


def control_networks(folder: Path) -> Case:
    model = random_model(NAME)
    files = _files(model)
    for tensors in files:
        read_control(written(folder / "x.safetensors", tensors), model)

    def case(rng: random.Random) -> None:
        good = rng.choice(files)
        tensors: Mapping[str, Tensor] = mutate_tensors(good, rng, [*good, *MARKS])
        if rng.random() < 0.2:
            tensors = {**tensors, rng.choice(MARKS): torch.ones(rng.choice((1, 4)))}
        path = folder / rng.choice(("x.safetensors", "x.bin"))
        if path.suffix == ".bin":
            nested: dict[str, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                nested.setdefault(name.partition(".")[0], {})[name.partition(".")[2]] = tensor
            torch.save(nested, path)
        else:
            written(path, tensors)
        (folder / "config.json").write_bytes(json_bytes({"global_pool_conditions": True}, rng))
        describe_control(open_weights(path))
        read_control(path, model)

    return case


def image_encoders(folder: Path) -> Case:
    config = VisionConfig(32, 2, 2, "quick_gelu", projection=24, patch=4, image_size=16)
    good = _theirs(VisionTower(config), transformers_vision(config))
    told = {"num_attention_heads": 2, "hidden_act": "quick_gelu"}
    (folder / "config.json").write_text('{"num_attention_heads": 2}')
    read_image_encoder(written(folder / "x.safetensors", good), None, "cpu")

    def case(rng: random.Random) -> None:
        (folder / "config.json").write_bytes(json_bytes(told, rng) if rng.random() < 0.5 else b"{}")
        path = written(folder / "x.safetensors", mutate_tensors(good, rng, [*good, *NASTY[:6], "class_embedding"]))
        image_encoder_config(path)
        read_image_encoder(path, None, "cpu")

    return case
