"""The layout of the original single-file checkpoints: latent-diffusion, Stable Diffusion and generative-models."""

from __future__ import annotations

from collections.abc import Iterator

from darkroom.checkpoints.table import CONV_1X1, CONV_1X1_1D, Place, Put, Table, heads_outermost
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.text_transformer import TextTransformerConfig
from darkroom.models.unet import UNetConfig

__all__ = ["autoencoder", "text_transformer", "unet"]

RES_BLOCK: Table = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "embedding": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "skip": "skip_connection",
}
TRANSFORMER: Table = {"norm": "norm", "proj_in": "proj_in", "proj_out": "proj_out"}
TRANSFORMER_BLOCK: Table = {
    "norm1": "norm1",
    **{f"attn1.{name}": f"attn1.{name}" for name in ("to_q", "to_k", "to_v")},
    "attn1.to_out": "attn1.to_out.0",
    "norm2": "norm2",
    **{f"attn2.{name}": f"attn2.{name}" for name in ("to_q", "to_k", "to_v")},
    "attn2.to_out": "attn2.to_out.0",
    "norm3": "norm3",
    "ff.proj_in": "ff.net.0.proj",
    "ff.proj_out": "ff.net.2",
}
FIRST_STAGE_BLOCK: Table = {name: name for name in ("norm1", "conv1", "norm2", "conv2")} | {"skip": "nin_shortcut"}
FIRST_STAGE_ATTENTION: Table = {
    "norm": "norm",
    "to_q": Put("q", CONV_1X1),
    "to_k": Put("k", CONV_1X1),
    "to_v": Put("v", CONV_1X1),
    "to_out": Put("proj_out", CONV_1X1),
}


def unet(config: UNetConfig) -> Iterator[Place]:
    """Below `model.diffusion_model`."""
    c, last = config, len(config.channel_mult) - 1
    ends: Table = {
        "time_embedding.0": "time_embed.0",
        "time_embedding.2": "time_embed.2",
        "conv_in": "input_blocks.0.0",
        "norm_out": "out.0",
        "conv_out": "out.2",
    }
    if c.vector == "linear":
        ends = {**ends, "vector_embedding.0": "label_emb.0.0", "vector_embedding.2": "label_emb.0.2"}
    elif c.vector == "table":
        ends = {**ends, "vector_embedding": "label_emb"}
    yield Place("", "", ends)

    n = 1
    for i in range(last + 1):
        for j in range(c.num_res_blocks):
            yield Place(f"down.{i}.blocks.{j}", f"input_blocks.{n}.0", RES_BLOCK)
            if c.depth[i]:
                yield from _attention(c, i, f"down.{i}.attentions.{j}", f"input_blocks.{n}.1")
            n += 1
        if i < last:
            yield _resample(c, f"down.{i}.resample", f"input_blocks.{n}.0", "op")
            n += 1

    yield Place("mid_block1", "middle_block.0", RES_BLOCK)
    yield from _attention(c, None, "mid_attention", "middle_block.1")
    yield Place("mid_block2", "middle_block.2", RES_BLOCK)

    n = 0
    for k, i in enumerate(reversed(range(last + 1))):
        for j in range(c.num_res_blocks + 1):
            yield Place(f"up.{k}.blocks.{j}", f"output_blocks.{n}.0", RES_BLOCK)
            if c.depth[i]:
                yield from _attention(c, i, f"up.{k}.attentions.{j}", f"output_blocks.{n}.1")
            n += 1
        if i > 0:  # the resampling follows in the block of the level's last residual block
            yield _resample(c, f"up.{k}.resample", f"output_blocks.{n - 1}.{2 if c.depth[i] else 1}", "conv")


def _attention(c: UNetConfig, level: int | None, ours: str, theirs: str) -> Iterator[Place]:
    if c.attention == "transformer":
        yield Place(ours, theirs, TRANSFORMER)
        for k in range(c.mid_depth if level is None else c.depth[level]):
            yield Place(f"{ours}.blocks.{k}", f"{theirs}.transformer_blocks.{k}", TRANSFORMER_BLOCK)
    else:
        channels = c.model_channels * c.channel_mult[-1 if level is None else level]
        qkv = Put("qkv", heads_outermost(c.head_count(channels)))
        projection = Put("proj_out", CONV_1X1_1D)
        yield Place(ours, theirs, {"norm": "norm", ("to_q", "to_k", "to_v"): qkv, "to_out": projection})


def _resample(c: UNetConfig, ours: str, theirs: str, convolution: str) -> Place:
    return Place(ours, theirs, RES_BLOCK if c.resblock_updown else {"conv": convolution})


def autoencoder(config: AutoencoderConfig) -> Iterator[Place]:
    """Below `first_stage_model`, or the whole of a stand-alone first stage."""
    c, last = config, len(config.channel_mult) - 1
    yield Place("", "", {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"})
    yield Place("quantiser", "quantize", {"embedding": "embedding"})
    for half in ("encoder", "decoder"):
        yield Place(half, half, {name: name for name in ("conv_in", "norm_out", "conv_out")})
        yield Place(f"{half}.mid.block1", f"{half}.mid.block_1", FIRST_STAGE_BLOCK)
        yield Place(f"{half}.mid.attention", f"{half}.mid.attn_1", FIRST_STAGE_ATTENTION)
        yield Place(f"{half}.mid.block2", f"{half}.mid.block_2", FIRST_STAGE_BLOCK)
    for i in range(last + 1):
        # theirs counts the decoder's levels by resolution, too; ours stand in the order of execution
        for ours, theirs, count, resample in (
            (f"encoder.levels.{i}", f"encoder.down.{i}", c.num_res_blocks, "downsample"),
            (f"decoder.levels.{last - i}", f"decoder.up.{i}", c.decoder_res_blocks, "upsample"),
        ):
            for j in range(count):
                yield Place(f"{ours}.blocks.{j}", f"{theirs}.block.{j}", FIRST_STAGE_BLOCK)
                yield Place(f"{ours}.attentions.{j}", f"{theirs}.attn.{j}", FIRST_STAGE_ATTENTION)
            yield Place(f"{ours}.resample", f"{theirs}.{resample}", {"conv": "conv"})


def text_transformer(config: TextTransformerConfig) -> Iterator[Place]:
    """Below `cond_stage_model.transformer`: attention and feed-forward alternate, each with its norm before it."""
    ends: Table = {"token_embedding": "token_emb", "position_embedding": "pos_emb.emb"}
    yield Place("", "", {**ends, "norm": "norm", "to_logits": "to_logits"})
    attention: Table = {f"attention.{name}": f"1.{name}" for name in ("to_q", "to_k", "to_v", "to_out")}
    for i in range(config.layers):
        yield Place(f"layers.{i}", f"attn_layers.layers.{2 * i}", {"norm1": "0", **attention})
        yield Place(
            f"layers.{i}", f"attn_layers.layers.{2 * i + 1}", {"norm2": "0", "ff.0": "1.net.0.0", "ff.2": "1.net.2"}
        )
