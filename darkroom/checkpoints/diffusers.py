"""The layout of Diffusers folders: one file of weights for each component."""

from __future__ import annotations

from collections.abc import Iterator

from darkroom.checkpoints.original import TRANSFORMER, TRANSFORMER_BLOCK
from darkroom.checkpoints.table import Place, Table
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.text_transformer import TextTransformerConfig
from darkroom.models.unet import UNetConfig

__all__ = ["autoencoder", "text_transformer", "unet"]

RES_BLOCK: Table = {
    "norm1": "norm1",
    "conv1": "conv1",
    "embedding": "time_emb_proj",
    "norm2": "norm2",
    "conv2": "conv2",
    "skip": "conv_shortcut",
}
ATTENTION: Table = {"norm": "group_norm", "to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out.0"}


def unet(config: UNetConfig, vector: str = "class_embedding") -> Iterator[Place]:
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
    yield Place("", "", ends)

    for i in range(last + 1):
        for ours, theirs, count, resample in (
            (f"down.{i}", f"down_blocks.{i}", c.num_res_blocks, "downsamplers.0"),
            (f"up.{last - i}", f"up_blocks.{last - i}", c.num_res_blocks + 1, "upsamplers.0"),
        ):
            for j in range(count):
                yield Place(f"{ours}.blocks.{j}", f"{theirs}.resnets.{j}", RES_BLOCK)
                yield from _attention(c, c.depth[i], f"{ours}.attentions.{j}", f"{theirs}.attentions.{j}")
            yield Place(
                f"{ours}.resample", f"{theirs}.{resample}", RES_BLOCK if c.resblock_updown else {"conv": "conv"}
            )
    yield Place("mid_block1", "mid_block.resnets.0", RES_BLOCK)
    yield from _attention(c, c.mid_depth, "mid_attention", "mid_block.attentions.0")
    yield Place("mid_block2", "mid_block.resnets.1", RES_BLOCK)


def _attention(c: UNetConfig, depth: int, ours: str, theirs: str) -> Iterator[Place]:
    if c.attention == "block":
        yield Place(ours, theirs, ATTENTION)
        return
    yield Place(ours, theirs, TRANSFORMER)
    for k in range(depth):
        yield Place(f"{ours}.blocks.{k}", f"{theirs}.transformer_blocks.{k}", TRANSFORMER_BLOCK)


def autoencoder(config: AutoencoderConfig) -> Iterator[Place]:
    """The component `vae` (`vqvae` in the older ones)."""
    c, last = config, len(config.channel_mult) - 1
    yield Place("", "", {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"})
    yield Place("quantiser", "quantize", {"embedding": "embedding"})
    for half in ("encoder", "decoder"):
        yield Place(half, half, {"conv_in": "conv_in", "norm_out": "conv_norm_out", "conv_out": "conv_out"})
        yield Place(f"{half}.mid.block1", f"{half}.mid_block.resnets.0", RES_BLOCK)
        yield Place(f"{half}.mid.attention", f"{half}.mid_block.attentions.0", ATTENTION)
        yield Place(f"{half}.mid.block2", f"{half}.mid_block.resnets.1", RES_BLOCK)
    for i in range(last + 1):
        for ours, theirs, count, resample in (
            (f"encoder.levels.{i}", f"encoder.down_blocks.{i}", c.num_res_blocks, "downsamplers.0"),
            (f"decoder.levels.{i}", f"decoder.up_blocks.{i}", c.decoder_res_blocks, "upsamplers.0"),
        ):
            for j in range(count):
                yield Place(f"{ours}.blocks.{j}", f"{theirs}.resnets.{j}", RES_BLOCK)
                yield Place(f"{ours}.attentions.{j}", f"{theirs}.attentions.{j}", ATTENTION)
            yield Place(f"{ours}.resample", f"{theirs}.{resample}", {"conv": "conv"})


def text_transformer(config: TextTransformerConfig) -> Iterator[Place]:
    """The component `bert` of the text-to-image LDM."""
    ends: Table = {"token_embedding": "model.embed_tokens", "position_embedding": "model.embed_positions"}
    yield Place("", "", {**ends, "norm": "model.layer_norm", "to_logits": "to_logits"})
    layer: Table = {
        "norm1": "self_attn_layer_norm",
        **{f"attention.to_{x}": f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")},
        "norm2": "final_layer_norm",
        "ff.0": "fc1",
        "ff.2": "fc2",
    }
    for i in range(config.layers):
        yield Place(f"layers.{i}", f"model.layers.{i}", layer)
