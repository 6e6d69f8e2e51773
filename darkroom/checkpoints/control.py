"""ControlNets, T2I-Adapters and IP-Adapters from files of every tradition, checked against the model they are for."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count, takewhile
from pathlib import Path

import torch
from torch import Tensor, nn

from darkroom.checkpoints.control_names import (
    CONTROL_MODEL,
    adapter_of_diffusers,
    adapter_of_tencent,
    attention_widths,
    controlnet_of_diffusers,
    ip_adapter,
    kind_of_control,
    original_controlnet,
)
from darkroom.checkpoints.diffusers import vector_component
from darkroom.checkpoints.diffusers_names import modern_name
from darkroom.checkpoints.lora_family import FAMILIES
from darkroom.checkpoints.open_file import open_weights
from darkroom.checkpoints.stored import Stored, Weights
from darkroom.checkpoints.table import Rule, Scope, rules
from darkroom.checkpoints.transfer import assign, fit
from darkroom.errors import InputError, printable
from darkroom.json_file import read_json
from darkroom.models.controlnet import ControlNet, ControlNetConfig
from darkroom.models.ip_adapter import IPAdapter, IPAdapterConfig, ResamplerConfig
from darkroom.models.t2i_adapter import T2IAdapter, T2IAdapterConfig
from darkroom.nn.layers import allow_minimal_filtering
from darkroom.nn.lean import make_lean
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.empty import empty_modules

__all__ = ["ControlNetwork", "describe_control", "read_control"]

ControlNetwork = ControlNet | T2IAdapter | IPAdapter
Tensors = Mapping[str, Stored]

HINT_IN = "controlnet_cond_embedding.conv_in.weight"
LOW_RANK = "lora_controlnet"  # marks files that hold factors for weights of the model's own encoder …
OWN = ("hint.", "zero_")  # what a ControlNet has beside its copy of the encoder
FACTORS = (".up", ".down")
DIFFERENCE = "difference"  # … and those that hold the difference to it
STAGES = 4  # of every T2I-Adapter
HEAD_DIM = 64  # of the Perceiver in "plus" IP-Adapters

# Files that are not read, and why.
_UNREAD = (
    (r"lllite_.*", "is a ControlNet-LLLite, which is not read; ControlNets and T2I-Adapters are"),
    (r"(control_add_embedding|task_embedding).*", "is a ControlNet Union, which is not read; plain ControlNets are"),
    (
        r"image_proj\.(proj\.\d|perceiver_resampler|mapping|norm\.\d).*|ip_adapter\.\d+\.to_[kqvout]+_lora.*",
        "is an IP-Adapter for faces or of another kind; read are plain and plus",
    ),
)


def read_control(path: Path, model: LatentDiffusion) -> ControlNetwork:
    """The network in the file, in the precision and on the device of `model`.

    `InputError` where it is none, is of a kind that is not read, is damaged, or was made for another model.
    """
    weights = open_weights(path)
    tensors = {name.removeprefix(CONTROL_MODEL): t for name, t in weights.items() if name.startswith(CONTROL_MODEL)}
    # Beside the names of an original ControlNet a whole model may lie.
    tensors = {**tensors, **{m: weights[m] for m in (DIFFERENCE,) if m in weights}} if tensors else dict(weights)
    for pattern, cause in _UNREAD:
        if any(re.fullmatch(pattern, name) for name in tensors):
            raise InputError(f"{path} {cause}")
    kind = kind_of_control(tensors)
    if kind == "ControlNet":
        network = _controlnet(path, tensors, model)
    elif kind == "T2I-Adapter":
        network = _t2i_adapter(path, tensors, model)
    elif kind == "IP-Adapter":
        network = _ip_adapter(path, tensors, model)
    else:
        first = ", ".join(list(tensors)[:3])
        raise InputError(
            f"{path} is no ControlNet, T2I-Adapter or IP-Adapter: its {len(weights)} tensors are {first} …"
        )
    make_lean(network)
    if model.unet.conv_in.minimal_filtering:
        allow_minimal_filtering(network)
    return network.eval().requires_grad_(False)


def describe_control(weights: Weights) -> dict[str, str] | None:
    """What `darkroom inspect` says of a control network; None if the file is none."""
    kind = kind_of_control(weights)
    if kind is None:
        return None
    name = r".*(attn2\.to_k|to_k_ip)\.weight"
    width = next((t.shape[1] for n, t in weights.items() if re.fullmatch(name, n) and len(t.shape) == 2), None)
    return {"kind": kind, **({} if width is None else {"made for": _family(width)})}


def _family(width: int) -> str:
    """The models that read tokens of this width."""
    found = next((f.title for f in FAMILIES if f.token_width == width), None)
    return found or f"a model that reads tokens of width {width}"


def _fill(
    path: Path, network: nn.Module, places: Iterable[Scope], tensors: Tensors, model: LatentDiffusion, what: str
) -> None:
    """Give `network`, which is empty, the tensors of the file, or say what does not fit."""
    ours = network.state_dict()
    table = rules(places, ours)
    if LOW_RANK in tensors:
        tensors = {name: t for name, t in tensors.items() if name != LOW_RANK}
        table = _with_factors(path, table, network, tensors, model)
    fit(table, ours, tensors, is_ignored=lambda name: name.endswith(FACTORS)).require(path, what)
    assign(network, table, tensors, model.dtype, model.device, channels_last=model.device.type == "cpu")


def _require_tokens(path: Path, kind: str, tensors: Tensors, names: str, model: LatentDiffusion) -> None:
    """Raise `InputError` if the file reads tokens of another width than the model's."""
    width = next((t.shape[1] for n, t in tensors.items() if re.fullmatch(names, n) and len(t.shape) == 2), None)
    reads = model.system.unet.context_dim
    if width is None or width == reads:
        return
    tokens = f"tokens of width {reads}" if reads else "no tokens"
    raise InputError(f"{path} is a {kind} for {_family(width)}, the model is {model.system.name}, which reads {tokens}")


# ControlNet


def _controlnet(path: Path, tensors: Tensors, model: LatentDiffusion) -> ControlNet:
    of_diffusers = HINT_IN in tensors
    if of_diffusers:
        tensors = {modern_name(f"unet/{name}").removeprefix("unet/"): t for name, t in tensors.items()}
    _require_tokens(path, "ControlNet", tensors, r".*attn2\.to_k\.weight", model)
    config = _controlnet_config(path, tensors, model, of_diffusers=of_diffusers)
    with empty_modules():
        network = ControlNet(config)
    if of_diffusers:
        places = controlnet_of_diffusers(config, vector_component(model.system))
    else:
        places = original_controlnet(config)
    difference = tensors.keys() & {DIFFERENCE}
    own = {name: t for name, t in tensors.items() if name != DIFFERENCE}
    _fill(path, network, places, own, model, f"a ControlNet for {model.system.name}")
    if difference:
        _add_encoder(network, model)
    return network


def _controlnet_config(path: Path, tensors: Tensors, model: LatentDiffusion, *, of_diffusers: bool) -> ControlNetConfig:
    """The model's encoder with as many transformer blocks as the file has: some ControlNets have fewer."""
    unet = model.system.unet

    def depth(level: int | None) -> int:
        if of_diffusers:
            where = "mid_block" if level is None else f"down_blocks.{level}"
            start = f"{where}.attentions.0.transformer_blocks."
        else:
            where = "middle_block" if level is None else f"input_blocks.{1 + level * (unet.num_res_blocks + 1)}"
            start = f"{where}.1.transformer_blocks."
        return len({name.removeprefix(start).partition(".")[0] for name in tensors if name.startswith(start)})

    names = (f"input_hint_block.{i}.weight" for i in count(0, 2))
    if of_diffusers:
        names = chain([HINT_IN], (f"controlnet_cond_embedding.blocks.{i}.weight" for i in count()))
    shapes = [tensors[name].shape for name in takewhile(tensors.__contains__, names)]
    if any(len(shape) != 4 for shape in shapes):
        raise InputError(f"{path}: the layers that read the hint are no convolutions")
    told = read_json(beside) if os.path.isfile(beside := path.with_name("config.json")) and of_diffusers else {}
    # The original of version 1.1 that pools says so in its name alone.
    pools = told.get("global_pool_conditions") is True or (not of_diffusers and "shuffle" in path.stem.lower())
    return ControlNetConfig(
        replace(
            unet,
            in_channels=model.system.autoencoder.latent_channels,
            depth=tuple(depth(level) for level in range(len(unet.channel_mult))),
            mid_depth=depth(None),
        ),
        hint_channels=shapes[0][1],
        hint_widths=tuple(shape[0] for shape in shapes[: len(shapes) - (not of_diffusers)][::2]),
        global_pool=pools,
    )


def _with_factors(
    path: Path, table: Sequence[Rule], network: nn.Module, tensors: Tensors, model: LatentDiffusion
) -> list[Rule]:
    """The rules of the tensors that the file has whole; the others are the model's own, changed by low-rank factors."""
    whole = [rule for rule in table if all(name in tensors for name in rule.theirs)]
    made: dict[str, Tensor] = {}
    for rule in table:
        if rule in whole or len(rule.ours) != 1 or rule.ours[0].startswith(OWN):
            continue
        base = _of_encoder(model, rule.ours[0], network.state_dict()[rule.ours[0]].shape)
        stem = rule.theirs[0].removesuffix(".weight")
        up, down = (tensors.get(f"{stem}.{part}") for part in ("up", "down"))
        if up is not None and down is not None:
            rank = up.shape[1] if len(up.shape) > 1 else 0
            factors = (base.shape[0], rank), (rank, math.prod(base.shape[1:]))
            if tuple((*t.shape[:1], math.prod(t.shape[1:])) for t in (up, down)) != factors:
                told = f"{list(up.shape)} and {list(down.shape)}"
                raise InputError(f"{path}: the factors of {printable(stem)} are {told}, the layer {list(base.shape)}")
            change = up.load(torch.float32).flatten(1) @ down.load(torch.float32).flatten(1)
            base = (base.float() + change.reshape(base.shape).to(base.device)).to(base.dtype)
        made[rule.ours[0]] = base
    network.load_state_dict(made, strict=False, assign=True)
    return [rule for rule in table if rule.ours[0] not in made]


def _add_encoder(network: ControlNet, model: LatentDiffusion) -> None:
    """Make the whole of a difference to the model's own encoder."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith(OWN):
                base = _of_encoder(model, name, parameter.shape)
                parameter.copy_(parameter.float() + base.float())


def _of_encoder(model: LatentDiffusion, name: str, shape: Sequence[int]) -> Tensor:
    """The model's own weight; of one that reads more than the latent, the channels of that."""
    own = model.unet.state_dict().get(name)
    if own is None:
        raise InputError(f"the control network changes weights of {model.system.name}, which are quantized here")
    return own if own.shape == shape else own[:, : shape[1]]


# T2I-Adapter


def _t2i_adapter(path: Path, tensors: Tensors, model: LatentDiffusion) -> T2IAdapter:
    of_diffusers = any(name.startswith("adapter.") for name in tensors)
    tensors = {name.removeprefix("adapter."): t for name, t in tensors.items()}
    light = "conv_in.weight" not in tensors
    names = [
        m for name in tensors if (m := re.fullmatch(r"body\.(\d+)\.(?:(?:resnets|body)\.(\d+)\.)?block1\.weight", name))
    ]
    blocks = len({m[2] for m in names}) if of_diffusers or light else len(names) // STAGES
    unet = model.system.unet
    widths = tuple(unet.model_channels * m for m in unet.channel_mult)
    head = tensors.get("body.0.in_conv.weight" if light else "conv_in.weight")
    first = () if head is None else head.shape
    # A network of three levels takes the last feature behind its middle.
    deep = len(widths) == STAGES
    factor = 8 if deep else 16
    config = T2IAdapterConfig(
        channels=(*widths, *widths[-1:] * (STAGES - len(widths))),
        num_res_blocks=max(1, blocks),
        factor=factor,
        halved=(False, True, True, True) if deep else (False, False, True, False),
        light=light,
        hint_channels=max(1, first[1] // factor**2) if len(first) == 4 else 3,
    )
    with empty_modules():
        network = T2IAdapter(config)
    places = adapter_of_diffusers(config) if of_diffusers else adapter_of_tencent(config)
    _fill(path, network, places, tensors, model, f"a T2I-Adapter for {model.system.name}")
    return network


# IP-Adapter


def _ip_adapter(path: Path, tensors: Tensors, model: LatentDiffusion) -> IPAdapter:
    _require_tokens(path, "IP-Adapter", tensors, r"ip_adapter\.\d+\.to_k_ip\.weight", model)
    unet = model.system.unet
    assert unet.context_dim is not None, "a model without tokens was refused"
    shapes = {name: t.shape for name, t in tensors.items()}
    tokens, image, resampler = 0, 0, None
    if "image_proj.latents" in tensors:
        depth = len({name.split(".")[2] for name in tensors if name.startswith("image_proj.layers.")})
        inner = next(iter(shapes.get("image_proj.layers.0.0.to_q.weight", ())), HEAD_DIM)
        *_, tokens, width = (0, 0, *shapes["image_proj.latents"])
        resampler = ResamplerConfig(width, depth, max(1, inner // HEAD_DIM), HEAD_DIM)
        *_, image = (0, *shapes.get("image_proj.proj_in.weight", ()))
    else:
        wide, image = (0, 0, *shapes["image_proj.proj.weight"])[-2:]
        tokens = wide // unet.context_dim
    config = IPAdapterConfig(image, unet.context_dim, tokens, tuple(chain(*attention_widths(unet))), resampler)
    with empty_modules():
        network = IPAdapter(config)
    _fill(path, network, ip_adapter(config, unet), tensors, model, f"an IP-Adapter for {model.system.name}")
    return network
