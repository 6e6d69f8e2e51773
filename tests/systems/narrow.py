"""Systems with all their parts and few channels: what the catalogue says, at a size for tests."""

from dataclasses import replace
from typing import Any

from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.boxes import BoxesConfig
from darkroom.conditioning.class_label import ClassLabelConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.depth import DepthMapConfig
from darkroom.conditioning.features import VectorsConfig
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.models.depth import DepthConfig
from darkroom.models.vision import VisionConfig
from darkroom.systems import SYSTEMS, System

WIDTH = 16  # of each tower
VOCABULARY = 522  # bytes, bytes that end a word, eight merges, start, end: `write_vocabulary`
DEPTH = DepthConfig(32, (128, 128, 128), (1, 1, 1), 16, 2, 2, (0, 1), 8, image_size=64)


def narrow(name: str) -> System:
    """The system `name` with 32 channels, towers of two layers and at most one transformer block anywhere."""
    system = SYSTEMS[name]
    u, a = system.unet, system.autoencoder
    embedders = tuple(_embedder(c) for c in system.embedders)
    towers = sum(len(c.towers) for c in embedders if isinstance(c, ClipTextEmbedderConfig))
    vector_dim = u.vector_dim
    if u.vector == "linear":
        numbers = 5 if name.endswith("refiner") else 6
        vector_dim = 2 * WIDTH if "unclip" in name else WIDTH + numbers * 256
    unet = replace(
        u,
        model_channels=32,
        num_res_blocks=1,
        depth=tuple(min(d, 1) for d in u.depth),
        mid_depth=min(u.mid_depth, 1),
        head_dim=16 if u.head_dim is not None else None,
        heads=2 if u.heads is not None else None,
        context_dim=None if u.context_dim is None else WIDTH * max(towers, 1),
        vector_dim=vector_dim,
    )
    stage = replace(a, channels=32, num_res_blocks=1, decoder_res_blocks=1)
    return replace(system, unet=unet, autoencoder=stage, embedders=embedders)


def _embedder(config: Any) -> Any:
    if isinstance(config, ClipTextEmbedderConfig):
        return replace(config, towers=tuple(replace(t, tower=_tower(t.tower)) for t in config.towers))
    if isinstance(config, BertTextConfig):
        return replace(config, width=WIDTH, layers=1, heads=2, head_dim=4, vocabulary=5)
    if isinstance(config, BoxesConfig):
        return replace(config, width=WIDTH, layers=1, heads=2, head_dim=4)
    if isinstance(config, (ClassLabelConfig, VectorsConfig)):
        return replace(config, width=WIDTH)
    if isinstance(config, DepthMapConfig):
        return replace(config, estimator=DEPTH)
    if isinstance(config, ImagePromptConfig):
        return replace(config, tower=VisionConfig(16, 1, 2, config.tower.activation, WIDTH, image_size=28))
    return config


def _tower(tower: Any) -> Any:
    projection = WIDTH if tower.projection is not None else None
    return replace(tower, width=WIDTH, layers=2, heads=2, vocabulary=VOCABULARY, projection=projection)
