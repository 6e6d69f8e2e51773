"""Name tables of ControlNets, T2I-Adapters and IP-Adapters: ours on the left, those of the files on the right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from darkroom.checkpoints import diffusers, original
from darkroom.checkpoints.table import FUSED_KV, Entry, Scope, Table
from darkroom.models.controlnet import ControlNetConfig
from darkroom.models.ip_adapter import IPAdapterConfig
from darkroom.models.t2i_adapter import T2IAdapterConfig
from darkroom.models.unet import UNetConfig, skip_channels

__all__ = [
    "CONTROL_MODEL",
    "adapter_of_diffusers",
    "adapter_of_tencent",
    "attention_widths",
    "controlnet_of_diffusers",
    "ip_adapter",
    "kind_of_control",
    "original_controlnet",
]


CONTROL_MODEL = "control_model."  # before the names of original ControlNets, beside a whole model or alone

# What a tensor says about its file.
_MARKS = {
    "input_hint_block.0.weight": "ControlNet",
    "controlnet_cond_embedding.conv_in.weight": "ControlNet",
    "body.0.block1.weight": "T2I-Adapter",
    "body.0.in_conv.weight": "T2I-Adapter",
    "adapter.body.0.in_conv.weight": "T2I-Adapter",
    "adapter.body.0.resnets.0.block1.weight": "T2I-Adapter",
    "image_proj.proj.weight": "IP-Adapter",
    "image_proj.latents": "IP-Adapter",
}


def kind_of_control(names: Iterable[str]) -> str | None:
    """ "ControlNet", "T2I-Adapter" or "IP-Adapter", by the names of the tensors; None for anything else."""
    bare = {name.removeprefix(CONTROL_MODEL) for name in names}
    return next((kind for mark, kind in _MARKS.items() if mark in bare), None)


def original_controlnet(config: ControlNetConfig) -> Iterator[Scope]:
    """Below `control_model.`, or the whole file."""
    yield from original.unet(config.unet)
    yield Scope("", "", {f"hint.{i}": f"input_hint_block.{i}" for i in _hint_layers(config)})
    zeros: Table = {f"zero_skips.{i}": f"zero_convs.{i}.0" for i in range(len(skip_channels(config.unet)))}
    yield Scope("", "", {**zeros, "zero_middle": "middle_block_out.0"})


def controlnet_of_diffusers(config: ControlNetConfig, vector: str) -> Iterator[Scope]:
    """`vector` is what the linear layers of the vector slot are called there."""
    yield from diffusers.unet(config.unet, vector)
    first, *inner, last = _hint_layers(config)
    blocks = {f"hint.{layer}": f"blocks.{i}" for i, layer in enumerate(inner)}
    hint: Table = {f"hint.{first}": "conv_in", **blocks, f"hint.{last}": "conv_out"}
    yield Scope("", "controlnet_cond_embedding", hint)
    zeros: Table = {f"zero_skips.{i}": f"controlnet_down_blocks.{i}" for i in range(len(skip_channels(config.unet)))}
    yield Scope("", "", {**zeros, "zero_middle": "controlnet_mid_block"})


def _hint_layers(config: ControlNetConfig) -> list[int]:
    """The convolutions; functions stand between them."""
    return list(range(0, 4 * len(config.hint_widths), 2))


_RESIDUAL: Table = {"conv1": "block1", "conv2": "block2"}


def adapter_of_diffusers(config: T2IAdapterConfig) -> Iterator[Scope]:
    """Below `adapter.`."""
    yield Scope("", "", {"conv_in": "conv_in"})
    for i in range(len(config.channels)):
        yield Scope(f"stages.{i}", f"body.{i}", {"conv_in": "in_conv", "conv_out": "out_conv"})
        for j in range(config.num_res_blocks):
            yield Scope(f"stages.{i}.blocks.{j}", f"body.{i}.resnets.{j}", _RESIDUAL)


def adapter_of_tencent(config: T2IAdapterConfig) -> Iterator[Scope]:
    """The first releases: full ones count residual blocks through all stages, light ones inside of each."""
    n = config.num_res_blocks
    yield Scope("", "", {"conv_in": "conv_in"})
    for i in range(len(config.channels)):
        stage = f"body.{i if config.light else i * n}"
        yield Scope(f"stages.{i}", stage, {"conv_in": "in_conv", "conv_out": "out_conv"})
        for j in range(n):
            block = f"body.{i}.body.{j}" if config.light else f"body.{i * n + j}"
            yield Scope(f"stages.{i}.blocks.{j}", block, _RESIDUAL)


def ip_adapter(config: IPAdapterConfig, unet: UNetConfig) -> Iterator[Scope]:
    """Plain: one layer and its norm. Plus: a Perceiver. Attentions stand under their numbers among Diffusers'
    processors, which go down, up, and last through the middle; even ones are self-attention."""
    names: Table = {"projection.proj": "image_proj.proj", "projection.norm": "image_proj.norm"}
    if config.resampler is not None:
        names = {f"projection.{name}": f"image_proj.{name}" for name in ("latents", "proj_in", "proj_out", "norm_out")}
        for i in range(config.resampler.depth):
            ours, theirs = f"projection.layers.{i}", f"image_proj.layers.{i}"
            attention: Table = {"norm_x": "norm1", "norm_y": "norm2", "to_q": "to_q", "to_out": "to_out"}
            yield Scope(ours, f"{theirs}.0", {**attention, ("to_k", "to_v"): Entry("to_kv", FUSED_KV)})
            yield Scope(ours, f"{theirs}.1", {"norm_ff": "0", "ff_in": "1", "ff_out": "3"})
    yield Scope("", "", names)
    down, middle, up = (len(widths) for widths in attention_widths(unet))
    order = [*range(down), *range(down + up, down + up + middle), *range(down, down + up)]
    for i, number in enumerate(order):
        yield Scope("", f"ip_adapter.{2 * number + 1}", {f"to_{x}.{i}": f"to_{x}_ip" for x in "kv"})


def attention_widths(c: UNetConfig) -> tuple[list[int], list[int], list[int]]:
    """Of each layer that reads a prompt, in the order of execution: on the way down, in the middle, on the way up."""
    levels = [(c.model_channels * m, depth) for m, depth in zip(c.channel_mult, c.depth)]
    down = [width for width, depth in levels for _ in range(depth * c.num_res_blocks)]
    up = [width for width, depth in reversed(levels) for _ in range(depth * (c.num_res_blocks + 1))]
    return down, [levels[-1][0]] * c.mid_depth, up
