"""The layout of the original single-file checkpoints: latent-diffusion, Stable Diffusion and generative-models."""

from __future__ import annotations

from collections.abc import Iterator

from darkroom.checkpoints.clip_names import openclip_text, openclip_vision, transformers_text
from darkroom.checkpoints.depth_names import midas
from darkroom.checkpoints.original_names import UNET
from darkroom.checkpoints.part import Part
from darkroom.checkpoints.table import CONV_1X1, CONV_1X1_1D, ONE_ROW, Entry, Scope, Table, heads_outermost
from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.boxes import BoxesConfig
from darkroom.conditioning.class_label import ClassLabelConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.depth import DepthMapConfig
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.conditioning.segmentation import SegmentationConfig
from darkroom.conditioning.word_text import WordTextConfig
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.unet import UNetConfig
from darkroom.systems.system import System

__all__ = ["autoencoder", "holds", "parts", "text_transformer", "unet"]

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
FIRST_STAGE_BLOCK: Table = {
    **{name: name for name in ("norm1", "conv1", "norm2", "conv2")},
    "skip": "nin_shortcut",
}
FIRST_STAGE_ATTENTION: Table = {
    "norm": "norm",
    "to_q": Entry("q", CONV_1X1),
    "to_k": Entry("k", CONV_1X1),
    "to_v": Entry("v", CONV_1X1),
    "to_out": Entry("proj_out", CONV_1X1),
}


def unet(config: UNetConfig) -> Iterator[Scope]:
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
    yield Scope("", "", ends)

    n = 1
    for i in range(last + 1):
        for j in range(c.num_res_blocks):
            yield Scope(f"down.{i}.blocks.{j}", f"input_blocks.{n}.0", RES_BLOCK)
            if c.depth[i]:
                yield from _attention(c, i, f"down.{i}.attentions.{j}", f"input_blocks.{n}.1")
            n += 1
        if i < last:
            yield _resample(c, f"down.{i}.resample", f"input_blocks.{n}.0", "op")
            n += 1

    yield Scope("mid_block1", "middle_block.0", RES_BLOCK)
    yield from _attention(c, None, "mid_attention", "middle_block.1")
    yield Scope("mid_block2", "middle_block.2", RES_BLOCK)

    n = 0
    for k, i in enumerate(reversed(range(last + 1))):
        for j in range(c.num_res_blocks + 1):
            yield Scope(f"up.{k}.blocks.{j}", f"output_blocks.{n}.0", RES_BLOCK)
            if c.depth[i]:
                yield from _attention(c, i, f"up.{k}.attentions.{j}", f"output_blocks.{n}.1")
            n += 1
        if i > 0:  # the resampling follows in the block of the level's last residual block
            yield _resample(c, f"up.{k}.resample", f"output_blocks.{n - 1}.{2 if c.depth[i] else 1}", "conv")


def _attention(c: UNetConfig, level: int | None, ours: str, theirs: str) -> Iterator[Scope]:
    if c.attention == "transformer":
        yield Scope(ours, theirs, TRANSFORMER)
        for k in range(c.mid_depth if level is None else c.depth[level]):
            yield Scope(f"{ours}.blocks.{k}", f"{theirs}.transformer_blocks.{k}", TRANSFORMER_BLOCK)
    else:
        channels = c.model_channels * c.channel_mult[-1 if level is None else level]
        qkv = Entry("qkv", heads_outermost(c.head_count(channels)))
        projection = Entry("proj_out", CONV_1X1_1D)
        yield Scope(ours, theirs, {"norm": "norm", ("to_q", "to_k", "to_v"): qkv, "to_out": projection})


def _resample(c: UNetConfig, ours: str, theirs: str, convolution: str) -> Scope:
    return Scope(ours, theirs, RES_BLOCK if c.resblock_updown else {"conv": convolution})


def autoencoder(config: AutoencoderConfig) -> Iterator[Scope]:
    """Below `first_stage_model`, or the whole of a stand-alone first stage."""
    c, last = config, len(config.channel_mult) - 1
    yield Scope("", "", {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"})
    yield Scope("quantizer", "quantize", {"embedding": "embedding"})
    for half in ("encoder", "decoder"):
        yield Scope(half, half, {name: name for name in ("conv_in", "norm_out", "conv_out")})
        yield Scope(f"{half}.mid.block1", f"{half}.mid.block_1", FIRST_STAGE_BLOCK)
        yield Scope(f"{half}.mid.attention", f"{half}.mid.attn_1", FIRST_STAGE_ATTENTION)
        yield Scope(f"{half}.mid.block2", f"{half}.mid.block_2", FIRST_STAGE_BLOCK)
    for i in range(last + 1):
        # theirs counts the decoder's levels by resolution, too; ours stand in the order of execution
        for ours, theirs, count, resample in (
            (f"encoder.levels.{i}", f"encoder.down.{i}", c.num_res_blocks, "downsample"),
            (f"decoder.levels.{last - i}", f"decoder.up.{i}", c.decoder_res_blocks, "upsample"),
        ):
            for j in range(count):
                yield Scope(f"{ours}.blocks.{j}", f"{theirs}.block.{j}", FIRST_STAGE_BLOCK)
                yield Scope(f"{ours}.attentions.{j}", f"{theirs}.attn.{j}", FIRST_STAGE_ATTENTION)
            yield Scope(f"{ours}.resample", f"{theirs}.{resample}", {"conv": "conv"})


def text_transformer(layers: int) -> Iterator[Scope]:
    """Below `cond_stage_model.transformer`: attention and feed-forward alternate, each with its norm before it."""
    ends: Table = {"token_embedding": "token_emb", "position_embedding": "pos_emb.emb"}
    yield Scope("", "", {**ends, "norm": "norm", "to_logits": "to_logits"})
    attention: Table = {f"attention.{name}": f"1.{name}" for name in ("to_q", "to_k", "to_v", "to_out")}
    for i in range(layers):
        yield Scope(f"layers.{i}", f"attn_layers.layers.{2 * i}", {"norm1": "0", **attention})
        yield Scope(
            f"layers.{i}", f"attn_layers.layers.{2 * i + 1}", {"norm2": "0", "ff.0": "1.net.0.0", "ff.2": "1.net.2"}
        )


def parts(system: System, *, generative_models: bool) -> list[Part]:
    """Where the networks of `system` lie in a single file, by the habits of latent-diffusion or generative-models."""
    result = [
        Part("unet", UNET, tuple(unet(system.unet))),
        Part("autoencoder", "first_stage_model.", tuple(autoencoder(system.autoencoder))),
    ]
    at = "conditioner.embedders."
    for config in system.embedders:
        match config:
            case ClipTextEmbedderConfig():
                for i, tower in enumerate(config.towers):
                    # OpenAI's weights come under the names of transformers, OpenCLIP's under their own.
                    prefix = f"conditioner.embedders.{i}." if generative_models else "cond_stage_model."
                    if tower.tower.activation == "quick_gelu":
                        scopes, prefix = transformers_text(tower.tower), f"{prefix}transformer."
                    else:
                        scopes, prefix = openclip_text(tower.tower), f"{prefix}model."
                    result.append(Part(f"{at}caption.towers.{i}", prefix, tuple(scopes)))
            case BertTextConfig() | BoxesConfig():
                key = "caption" if isinstance(config, BertTextConfig) else "boxes"
                scopes = tuple(text_transformer(config.layers))
                result.append(Part(f"{at}{key}.transformer", "cond_stage_model.transformer.", scopes))
            case ClassLabelConfig():
                result.append(Part(f"{at}class", "cond_stage_model.", (Scope("", "", {"table": "embedding"}),)))
            case SegmentationConfig():
                result.append(
                    Part(f"{at}segmentation", "cond_stage_model.", (Scope("", "", {"mix": "channel_mapper"}),))
                )
            case ImagePromptConfig():
                scopes = tuple(openclip_vision(config.tower))
                result.append(Part(f"{at}image_prompt.tower", "embedder.model.visual.", scopes))
                statistics: Table = {name: Entry(f"data_{name}", ONE_ROW) for name in ("mean", "std")}
                result.append(Part(f"{at}image_prompt", "noise_augmentor.", (Scope("", "", statistics),)))
            case DepthMapConfig():
                result.append(Part(f"{at}depth.estimator", "depth_model.model.", tuple(midas(config.estimator))))
            case _:
                pass  # embedders without parameters
    return result


def holds(system: System) -> bool:
    """Whether this layout has a place for everything in `system`; the project's own text embedder has none."""
    return not any(isinstance(config, WordTextConfig) for config in system.embedders)
