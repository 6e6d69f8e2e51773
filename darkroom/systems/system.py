"""What a system is: four parts and the defaults of its use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from darkroom.conditioning.aesthetic import AestheticScore, AestheticScoreConfig
from darkroom.conditioning.bert_text import BertText, BertTextConfig
from darkroom.conditioning.boxes import Boxes, BoxesConfig
from darkroom.conditioning.class_label import ClassLabel, ClassLabelConfig
from darkroom.conditioning.clip_text import ClipText, ClipTextEmbedderConfig
from darkroom.conditioning.depth import Depth, DepthMapConfig
from darkroom.conditioning.embedder import Embedder, EmbedderConfig
from darkroom.conditioning.features import Vectors, VectorsConfig
from darkroom.conditioning.image_prompt import ImagePrompt, ImagePromptConfig
from darkroom.conditioning.low_resolution import LowResolution, LowResolutionConfig
from darkroom.conditioning.masked_image import MaskedImage, MaskedImageConfig
from darkroom.conditioning.segmentation import Segmentation, SegmentationConfig
from darkroom.conditioning.size_and_crop import Numbers, NumbersConfig
from darkroom.conditioning.word_text import WordText, WordTextConfig
from darkroom.diffusion.prediction import Prediction
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.unet import UNetConfig
from darkroom.noise_schedule import NoiseSchedule
from darkroom.registry import Registry

__all__ = ["EMBEDDERS", "FIRST_STAGES", "SYSTEMS", "Defaults", "FirstStage", "System"]

# Every embedder: its configuration, by whose `kind` descriptions in files name it, and what is built from it.
EMBEDDERS: dict[type[EmbedderConfig], Callable[[Any], Embedder]] = {
    WordTextConfig: WordText,
    NumbersConfig: Numbers,
    AestheticScoreConfig: AestheticScore,
    BertTextConfig: BertText,
    BoxesConfig: Boxes,
    ClassLabelConfig: ClassLabel,
    ClipTextEmbedderConfig: ClipText,
    DepthMapConfig: Depth,
    ImagePromptConfig: ImagePrompt,
    LowResolutionConfig: LowResolution,
    MaskedImageConfig: MaskedImage,
    SegmentationConfig: Segmentation,
    VectorsConfig: Vectors,
}


@dataclass(frozen=True)
class Defaults:
    """What a request gets where it says nothing."""

    width: int
    height: int
    steps: int
    sampler: str
    schedule: str
    guidance_scale: float
    eta: float = 0.0  # share of DDIM's own noise
    strength: float | None = None  # share of the schedule that is run when a picture is given
    guidance_interval: tuple[float, float] | None = None  # guided between these shares of the steps only


@dataclass(frozen=True)
class System:
    """A whole latent diffusion system as data."""

    name: str
    title: str
    unet: UNetConfig
    autoencoder: AutoencoderConfig
    embedders: tuple[EmbedderConfig, ...]
    schedule: NoiseSchedule
    prediction: Prediction
    latent_scale: float
    defaults: Defaults
    force_upcast: bool = False  # in float16; the first stage then runs in float32
    scale_in_file: bool = False  # `latent_scale` stands only for what the checkpoint says
    layouts: tuple[str, ...] = ()  # names of the published single-file layouts that hold it


@dataclass(frozen=True)
class FirstStage:
    """An autoencoder that is published on its own."""

    name: str
    title: str
    autoencoder: AutoencoderConfig
    latent_scale: float  # what diffusion models on it multiply latents by
    layout: str  # name of the published single-file layout


SYSTEMS: Registry[System] = Registry("system")
FIRST_STAGES: Registry[FirstStage] = Registry("first stage")
