"""The layout of Diffusers folders: one file of weights for each component."""

from __future__ import annotations

from collections.abc import Iterator

from darkroom.checkpoints.clip_names import transformers_text, transformers_vision
from darkroom.checkpoints.depth_names import transformers_dpt
from darkroom.checkpoints.original import TRANSFORMER, TRANSFORMER_BLOCK
from darkroom.checkpoints.part import Part
from darkroom.checkpoints.table import ONE_ROW, Entry, Scope, Table
from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.depth import DepthMapConfig
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.unet import UNetConfig
from darkroom.systems.system import System

__all__ = ["autoencoder", "first_stage_component", "parts", "text_components"]
__all__ += ["text_transformer", "unet", "vector_component"]

RES_BLOCK: Table = {
    "norm1": "norm1",
    "conv1": "conv1",
    "embedding": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "skip": "conv_shortcut",
}
ATTENTION: Table = {"norm": "group_norm", "to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out.0"}


def unet(config: UNetConfig, vector: str = "class_embedding") -> Iterator[Scope]:
    """The component `unet`. `vector` is what the linear layers of the vector slot are called there."""
    c, last = config, len(config.channel_mult) - 1
    ends: Table = {
        "time_embedding.0": "time_embedding.linear_1",
        "time_embedding.2": "time_embedding.linear_2",
        "conv_in": "conv_in",
        "norm_out": "conv_norm_out",
        "conv_out": "conv_out",
    }
    if c.vector == "linear":
        ends = {**ends, "vector_embedding.0": f"{vector}.linear_1", "vector_embedding.2": f"{vector}.linear_2"}
    elif c.vector == "table":
        ends = {**ends, "vector_embedding": "class_embedding"}
    yield Scope("", "", ends)

    for i in range(last + 1):
        for ours, theirs, count, resample in (
            (f"down.{i}", f"down_blocks.{i}", c.num_res_blocks, "downsamplers.0"),
            (f"up.{last - i}", f"up_blocks.{last - i}", c.num_res_blocks + 1, "upsamplers.0"),
        ):
            for j in range(count):
                yield Scope(f"{ours}.blocks.{j}", f"{theirs}.resnets.{j}", RES_BLOCK)
                yield from _attention(c, c.depth[i], f"{ours}.attentions.{j}", f"{theirs}.attentions.{j}")
            yield Scope(
                f"{ours}.resample", f"{theirs}.{resample}", RES_BLOCK if c.resblock_updown else {"conv": "conv"}
            )
    yield Scope("mid_block1", "mid_block.resnets.0", RES_BLOCK)
    yield from _attention(c, c.mid_depth, "mid_attention", "mid_block.attentions.0")
    yield Scope("mid_block2", "mid_block.resnets.1", RES_BLOCK)


def _attention(c: UNetConfig, depth: int, ours: str, theirs: str) -> Iterator[Scope]:
    if c.attention == "block":
        yield Scope(ours, theirs, ATTENTION)
        return
    yield Scope(ours, theirs, TRANSFORMER)
    for k in range(depth):
        yield Scope(f"{ours}.blocks.{k}", f"{theirs}.transformer_blocks.{k}", TRANSFORMER_BLOCK)


def autoencoder(config: AutoencoderConfig) -> Iterator[Scope]:
    """The component `vae` (`vqvae` in the older ones)."""
    c, last = config, len(config.channel_mult) - 1
    yield Scope("", "", {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"})
    yield Scope("quantizer", "quantize", {"embedding": "embedding"})
    for half in ("encoder", "decoder"):
        yield Scope(half, half, {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"})
        yield Scope(f"{half}.mid.block1", f"{half}.mid_block.resnets.0", RES_BLOCK)
        yield Scope(f"{half}.mid.attention", f"{half}.mid_block.attentions.0", ATTENTION)
        yield Scope(f"{half}.mid.block2", f"{half}.mid_block.resnets.1", RES_BLOCK)
    for i in range(last + 1):
        for ours, theirs, count, resample in (
            (f"encoder.levels.{i}", f"encoder.down_blocks.{i}", c.num_res_blocks, "downsamplers.0"),
            (f"decoder.levels.{i}", f"decoder.up_blocks.{i}", c.decoder_res_blocks, "upsamplers.0"),
        ):
            for j in range(count):
                yield Scope(f"{ours}.blocks.{j}", f"{theirs}.resnets.{j}", RES_BLOCK)
                yield Scope(f"{ours}.attentions.{j}", f"{theirs}.attentions.{j}", ATTENTION)
            yield Scope(f"{ours}.resample", f"{theirs}.{resample}", {"conv": "conv"})


def text_transformer(layers: int) -> Iterator[Scope]:
    """The component `bert` of the text-to-image LDM."""
    ends: Table = {"token_embedding": "model.embed_tokens", "position_embedding": "model.embed_positions"}
    yield Scope("", "", {**ends, "norm": "model.layer_norm", "to_logits": "to_logits"})
    layer: Table = {
        "norm1": "self_attn_layer_norm",
        **{f"attention.to_{x}": f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")},
        "norm2": "final_layer_norm",
        "ff.0": "fc1",
        "ff.2": "fc2",
    }
    for i in range(layers):
        yield Scope(f"layers.{i}", f"model.layers.{i}", layer)


def parts(system: System) -> list[Part]:
    """Where the networks of `system` lie in a folder; the component stands before the slash."""
    result = [
        Part("unet", "unet/", tuple(unet(system.unet, vector_component(system)))),
        Part("autoencoder", f"{first_stage_component(system)}/", tuple(autoencoder(system.autoencoder))),
    ]
    at = "conditioner.embedders."
    for config in system.embedders:
        match config:
            case ClipTextEmbedderConfig():
                for i, (tower, name) in enumerate(zip(config.towers, text_components(config))):
                    result.append(Part(f"{at}caption.towers.{i}", f"{name}/", tuple(transformers_text(tower.tower))))
            case BertTextConfig():
                scopes = tuple(text_transformer(config.layers))
                result.append(Part(f"{at}caption.transformer", "bert/", scopes))
            case ImagePromptConfig():
                scopes = tuple(transformers_vision(config.tower))
                result.append(Part(f"{at}image_prompt.tower", "image_encoder/", scopes))
                statistics: Table = {name: Entry(name, ONE_ROW) for name in ("mean", "std")}
                result.append(Part(f"{at}image_prompt", "image_normalizer/", (Scope("", "", statistics),)))
            case DepthMapConfig():
                scopes = tuple(transformers_dpt(config.estimator))
                result.append(Part(f"{at}depth.estimator", "depth_estimator/", scopes))
            case _:
                pass  # embedders without parameters
    return result


def vector_component(system: System) -> str:
    """SDXL's sizes and pooled text enter by `add_embedding`, anything else by `class_embedding`."""
    sizes = any(isinstance(config, NumbersConfig) for config in system.embedders)
    return "add_embedding" if sizes else "class_embedding"


def first_stage_component(system: System) -> str:
    """The repositories of the LDM era say `vqvae`, also for the KL one."""
    return "vae" if any(isinstance(c, ClipTextEmbedderConfig) for c in system.embedders) else "vqvae"


def text_components(config: ClipTextEmbedderConfig) -> list[str]:
    """A tower whose pooled output is used is the second encoder, even where there is no first (refiner)."""
    return ["text_encoder_2" if tower.pooled else "text_encoder" for tower in config.towers]
