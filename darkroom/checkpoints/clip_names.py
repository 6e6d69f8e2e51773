"""CLIP's towers under their two foreign namings: OpenCLIP's (also OpenAI's own) and transformers'."""

from __future__ import annotations

from collections.abc import Iterator

from darkroom.checkpoints.table import FUSED_QKV, TRANSPOSED, Entry, Scope, Table
from darkroom.models.clip import ClipTextConfig
from darkroom.models.vision import VisionConfig

__all__ = ["openclip_text", "openclip_vision", "transformers_text", "transformers_vision"]

OPENCLIP_LAYER: Table = {
    "norm1": "ln_1",
    ("to_q", "to_k", "to_v"): Entry("attn.in_proj_{}", FUSED_QKV),
    "to_out": "attn.out_proj",
    "norm2": "ln_2",
    "ff_in": "mlp.c_fc",
    "ff_out": "mlp.c_proj",
}
TRANSFORMERS_LAYER: Table = {
    "norm1": "layer_norm1",
    **{f"to_{x}": f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")},
    "norm2": "layer_norm2",
    "ff_in": "mlp.fc1",
    "ff_out": "mlp.fc2",
}


def openclip_text(config: ClipTextConfig) -> Iterator[Scope]:
    """The text half of an OpenCLIP model. The projection is stored for x @ W, a linear layer holds its transpose."""
    ends: Table = {
        "token_embedding": "token_embedding",
        "position_embedding.weight": "positional_embedding",
        "norm": "ln_final",
        "projection.weight": Entry("text_projection", TRANSPOSED),
    }
    yield Scope("", "", ends)
    for i in range(config.layers):
        yield Scope(f"layers.{i}", f"transformer.resblocks.{i}", OPENCLIP_LAYER)


def openclip_vision(config: VisionConfig) -> Iterator[Scope]:
    """The part `visual` of an OpenCLIP or OpenAI model."""
    ends: Table = {
        "class_embedding": "class_embedding",
        "patch_embedding": "conv1",
        "position_embedding.weight": "positional_embedding",
        "norm_in": "ln_pre",
        "norm_out": "ln_post",
        "projection.weight": Entry("proj", TRANSPOSED),
    }
    yield Scope("", "", ends)
    for i in range(config.layers):
        yield Scope(f"layers.{i}", f"transformer.resblocks.{i}", OPENCLIP_LAYER)


def transformers_text(config: ClipTextConfig) -> Iterator[Scope]:
    """CLIPTextModel, with or without projection."""
    ends: Table = {
        "token_embedding": "text_model.embeddings.token_embedding",
        "position_embedding": "text_model.embeddings.position_embedding",
        "norm": "text_model.final_layer_norm",
        "projection": "text_projection",
    }
    yield Scope("", "", ends)
    for i in range(config.layers):
        yield Scope(f"layers.{i}", f"text_model.encoder.layers.{i}", TRANSFORMERS_LAYER)


def transformers_vision(config: VisionConfig) -> Iterator[Scope]:
    """CLIPVisionModelWithProjection."""
    ends: Table = {
        "class_embedding": "vision_model.embeddings.class_embedding",
        "patch_embedding": "vision_model.embeddings.patch_embedding",
        "position_embedding": "vision_model.embeddings.position_embedding",
        "norm_in": "vision_model.pre_layrnorm",  # spelt so there
        "norm_out": "vision_model.post_layernorm",
        "projection": "visual_projection",
    }
    yield Scope("", "", ends)
    for i in range(config.layers):
        yield Scope(f"layers.{i}", f"vision_model.encoder.layers.{i}", TRANSFORMERS_LAYER)
