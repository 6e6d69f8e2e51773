"""Narrow copies of systems: all their parts and few channels, built in milliseconds, to see that a recipe runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.boxes import BoxesConfig
from darkroom.conditioning.class_label import ClassLabelConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.depth import DepthMapConfig
from darkroom.conditioning.features import VectorsConfig
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.conditioning.word_text import WordTextConfig
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.bottleneck import VQConfig
from darkroom.models.clip_tokenizer import small_vocabulary
from darkroom.models.depth import DepthConfig
from darkroom.models.vision import VisionConfig
from darkroom.systems.system import System

__all__ = ["WIDTH", "narrow_stage", "narrowed", "write_narrow_vocabulary"]

WIDTH = 16  # of each tower
DEPTH = DepthConfig(32, (128, 128, 128), (1, 1, 1), 16, 2, 2, (0, 1), 8, image_size=64)
CODES = 64
# Small vocabularies: CLIP's bytes with few merges, and a few of BERT's pieces.
WORDS, MERGES = small_vocabulary(("c a", "ca t</w>", "r e", "re d</w>", "h o", "ho u", "hou s", "hous e</w>"))
PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "cat", "house")


def narrowed(system: System) -> System:
    """`system` with 32 channels, one residual block a level, towers of two layers and at most one transformer block
    anywhere. Its CLIP and BERT encoders read the vocabularies that `write_narrow_vocabulary` writes."""
    embedders = tuple(_embedder(c) for c in system.embedders)
    widths = [w for c in embedders if (w := _token_width(c))]
    u = system.unet
    unet = replace(
        u,
        model_channels=32,
        num_res_blocks=1,
        depth=tuple(min(d, 1) for d in u.depth),
        mid_depth=min(u.mid_depth, 1),
        head_dim=16 if u.head_dim is not None else None,
        heads=2 if u.heads is not None else None,
        context_dim=None if u.context_dim is None else max(widths, default=WIDTH),
        vector_dim=sum(_vector_width(c) for c in embedders) if u.vector == "linear" else u.vector_dim,
    )
    return replace(system, unet=unet, autoencoder=narrow_stage(system.autoencoder), embedders=embedders)


def narrow_stage(config: AutoencoderConfig) -> AutoencoderConfig:
    """A first stage with 32 channels and one residual block a level."""
    bottleneck = config.bottleneck
    if isinstance(bottleneck, VQConfig):
        bottleneck = replace(bottleneck, codes=min(bottleneck.codes, CODES))
    return replace(config, channels=32, num_res_blocks=1, decoder_res_blocks=1, bottleneck=bottleneck)


def _embedder(config: Any) -> Any:
    match config:
        case ClipTextEmbedderConfig():
            return replace(config, towers=tuple(replace(t, tower=_tower(t.tower)) for t in config.towers))
        case BertTextConfig():
            return replace(config, width=WIDTH, layers=1, heads=2, head_dim=4, vocabulary=len(PIECES))
        case WordTextConfig() | BoxesConfig():
            return replace(config, width=WIDTH, layers=1, heads=2, head_dim=4)
        case ClassLabelConfig() | VectorsConfig():
            return replace(config, width=WIDTH)
        case DepthMapConfig():
            return replace(config, estimator=DEPTH)
        case ImagePromptConfig():
            return replace(config, tower=VisionConfig(16, 1, 2, config.tower.activation, WIDTH, image_size=28))
        case _:
            return config


def _tower(tower: Any) -> Any:
    projection = WIDTH if tower.projection is not None else None
    return replace(tower, width=WIDTH, layers=2, heads=2, vocabulary=len(WORDS), projection=projection)


def _token_width(config: Any) -> int:
    if isinstance(config, ClipTextEmbedderConfig):
        return sum(t.tower.width for t in config.towers)
    return getattr(config, "width", 0) if not isinstance(config, NumbersConfig) and "score" not in config.kind else 0


def _vector_width(config: Any) -> int:
    """Of the part that a narrow embedder has in the vector."""
    match config:
        case ClipTextEmbedderConfig():
            return sum(t.tower.projection or t.tower.width for t in config.towers if t.pooled)
        case NumbersConfig():
            return config.width * len(config.absent)
        case ImagePromptConfig():
            return 2 * config.tower.projection
        case _:
            return config.width if config.kind == "aesthetic_score" else 0


def write_narrow_vocabulary(folder: Path) -> None:
    """What the tokenizers of narrow systems read, in `folder`: CLIP's two files, and BERT's."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(WORDS), encoding="utf-8")
    lines = [" ".join(pair) for pair in MERGES]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join([*PIECES, ""]), encoding="utf-8")
