"""The depth estimator's names: MiDaS' own (a timm transformer inside) and transformers' DPT."""

from __future__ import annotations

from collections.abc import Iterator

from darkroom.checkpoints.table import FUSED_QKV, Entry, Scope, Table
from darkroom.models.depth import DepthConfig

__all__ = ["midas", "transformers_dpt"]

BOTTLENECK: Table = {
    **{f"{part}{n}": f"{part}{n}" for n in (1, 2, 3) for part in ("conv", "norm")},
    "shortcut.0": "downsample.conv",
    "shortcut.1": "downsample.norm",
}


def midas(config: DepthConfig) -> Iterator[Scope]:
    """Below `depth_model.model`."""
    backbone = "pretrained.model.patch_embed.backbone"
    ends: Table = {
        "stem_conv": f"{backbone}.stem.conv",
        "stem_norm": f"{backbone}.stem.norm",
        "patch_embedding": "pretrained.model.patch_embed.proj",
        "class_token": "pretrained.model.cls_token",
        "position_embedding": "pretrained.model.pos_embed",
        "norm": "pretrained.model.norm",
        **{f"readout.{i}": f"pretrained.act_postprocess{i + 3}.0.project.0" for i in (0, 1)},
        **{f"project.{i}": f"pretrained.act_postprocess{i + 3}.3" for i in (0, 1)},
        "shrink": "pretrained.act_postprocess4.4",
        **{f"reduce.{i}": f"scratch.layer{i + 1}_rn" for i in range(4)},
        **{f"head{i + 1}": f"scratch.output_conv.{2 * i}" for i in range(3)},
    }
    yield Scope("", "", ends)
    yield from _stages(config, f"{backbone}.stages.{{}}.blocks.{{}}")
    layer: Table = {
        "norm1": "norm1",
        ("to_q", "to_k", "to_v"): Entry("attn.qkv", FUSED_QKV),
        "to_out": "attn.proj",
        "norm2": "norm2",
        "ff_in": "mlp.fc1",
        "ff_out": "mlp.fc2",
    }
    for i in range(config.layers):
        yield Scope(f"layers.{i}", f"pretrained.model.blocks.{i}", layer)
    units = {f"unit{u}.conv{c}": f"resConfUnit{u}.conv{c}" for u in (1, 2) for c in (1, 2)}
    for i in range(4):
        yield Scope(f"fusions.{i}", f"scratch.refinenet{i + 1}", {**units, "out": "out_conv"})


def transformers_dpt(config: DepthConfig) -> Iterator[Scope]:
    """DPTForDepthEstimation, the component `depth_estimator`. Its fusions are counted from the coarsest."""
    ends: Table = {
        "stem_conv": "dpt.embeddings.backbone.bit.embedder.convolution",
        "stem_norm": "dpt.embeddings.backbone.bit.embedder.norm",
        "patch_embedding": "dpt.embeddings.projection",
        "class_token": "dpt.embeddings.cls_token",
        "position_embedding": "dpt.embeddings.position_embeddings",
        "norm": "dpt.layernorm",
        **{f"readout.{i}": f"neck.reassemble_stage.readout_projects.{i + 2}.0" for i in (0, 1)},
        **{f"project.{i}": f"neck.reassemble_stage.layers.{i + 2}.projection" for i in (0, 1)},
        "shrink": "neck.reassemble_stage.layers.3.resize",
        **{f"reduce.{i}": f"neck.convs.{i}" for i in range(4)},
        **{f"head{i + 1}": f"head.head.{2 * i}" for i in range(3)},
    }
    yield Scope("", "", ends)
    yield from _stages(config, "dpt.embeddings.backbone.bit.encoder.stages.{}.layers.{}")
    layer: Table = {
        "norm1": "layernorm_before",
        "to_q": "attention.attention.query",
        "to_k": "attention.attention.key",
        "to_v": "attention.attention.value",
        "to_out": "attention.output.dense",
        "norm2": "layernorm_after",
        "ff_in": "intermediate.dense",
        "ff_out": "output.dense",
    }
    for i in range(config.layers):
        yield Scope(f"layers.{i}", f"dpt.encoder.layer.{i}", layer)
    units = {f"unit{u}.conv{c}": f"residual_layer{u}.convolution{c}" for u in (1, 2) for c in (1, 2)}
    for i in range(4):
        yield Scope(f"fusions.{i}", f"neck.fusion_stage.layers.{3 - i}", {**units, "out": "projection"})


def _stages(config: DepthConfig, theirs: str) -> Iterator[Scope]:
    for i, count in enumerate(config.blocks):
        for j in range(count):
            yield Scope(f"stages.{i}.{j}", theirs.format(i, j), BOTTLENECK)
