"""The published text and vision towers and the depth estimator, and how each family reads its text (papers D.4)."""

from __future__ import annotations

from darkroom.conditioning.clip_text import ClipTextEmbedderConfig, TextTowerConfig
from darkroom.models.clip import ClipTextConfig
from darkroom.models.depth import DepthConfig
from darkroom.models.vision import VisionConfig

__all__ = [
    "DPT_HYBRID",
    "REFINER_TEXT",
    "SD1_TEXT",
    "SD2_TEXT",
    "SDXL_TEXT",
    "VISION_H",
    "VISION_L",
]

CLIP_L = ClipTextConfig(width=768, layers=12, heads=12, activation="quick_gelu", projection=None)
# Of ViT-H's 24 layers Stable Diffusion 2 runs 23; the last one and the projection are in single files, never used.
OPENCLIP_H = ClipTextConfig(width=1024, layers=23, heads=16, activation="gelu", projection=None)
OPENCLIP_BIGG = ClipTextConfig(width=1280, layers=32, heads=20, activation="gelu", projection=1280)

SD1_TEXT = ClipTextEmbedderConfig(
    towers=(TextTowerConfig(CLIP_L, skip=0, norm=True, padding=None),), absent="empty", drop_rate=0.1
)
SD2_TEXT = ClipTextEmbedderConfig(
    towers=(TextTowerConfig(OPENCLIP_H, skip=0, norm=True, padding=0),), absent="empty", drop_rate=0.1
)
SDXL_TEXT = ClipTextEmbedderConfig(
    towers=(
        TextTowerConfig(CLIP_L, skip=1, norm=False, padding=None),
        TextTowerConfig(OPENCLIP_BIGG, skip=1, norm=False, padding=0, pooled=True),
    ),
    absent="zeros",
    drop_rate=0.1,
)
REFINER_TEXT = ClipTextEmbedderConfig(
    towers=(TextTowerConfig(OPENCLIP_BIGG, skip=1, norm=False, padding=0, pooled=True),), absent="empty", drop_rate=0.1
)

VISION_L = VisionConfig(width=1024, layers=24, heads=16, activation="quick_gelu", projection=768)
VISION_H = VisionConfig(width=1280, layers=32, heads=16, activation="gelu", projection=1024)

DPT_HYBRID = DepthConfig(
    stem=64,
    stages=(256, 512, 1024),
    blocks=(3, 4, 9),
    width=768,
    layers=12,
    heads=12,
    taps=(8, 11),
    features=256,
)
