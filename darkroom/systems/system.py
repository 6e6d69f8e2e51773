"""What a system is: four parts and the defaults of its use."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom.conditioning.aesthetic import AestheticScoreConfig
from darkroom.conditioning.bert_text import BertTextConfig
from darkroom.conditioning.boxes import BoxesConfig
from darkroom.conditioning.class_label import ClassLabelConfig
from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.conditioning.depth import DepthMapConfig
from darkroom.conditioning.features import VectorsConfig
from darkroom.conditioning.image_prompt import ImagePromptConfig
from darkroom.conditioning.low_resolution import LowResolutionConfig
from darkroom.conditioning.masked_image import MaskedImageConfig
from darkroom.conditioning.segmentation import SegmentationConfig
from darkroom.conditioning.size_and_crop import NumbersConfig
from darkroom.conditioning.word_text import WordTextConfig
from darkroom.diffusion.process import Prediction
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.unet import UNetConfig
from darkroom.noise_schedule import NoiseSchedule
from darkroom.registry import Registry

__all__ = ["FIRST_STAGES", "SYSTEMS", "Defaults", "EmbedderConfig", "FirstStage", "System"]

EmbedderConfig = (
    WordTextConfig
    | NumbersConfig
    | AestheticScoreConfig
    | BertTextConfig
    | BoxesConfig
    | ClassLabelConfig
    | ClipTextEmbedderConfig
    | DepthMapConfig
    | ImagePromptConfig
    | LowResolutionConfig
    | MaskedImageConfig
    | SegmentationConfig
    | VectorsConfig
)


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
    stage_overflows: bool = False  # in float16; the first stage then runs in float32
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
