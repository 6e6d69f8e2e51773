"""What a system is: four parts and the defaults of its use."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom.conditioning.size import NumbersConfig
from darkroom.conditioning.text import WordTextConfig
from darkroom.diffusion.process import Prediction, ScheduleConfig
from darkroom.models.autoencoder import AutoencoderConfig
from darkroom.models.unet import UNetConfig
from darkroom.registry import Registry

__all__ = ["SYSTEMS", "Defaults", "EmbedderConfig", "System"]

EmbedderConfig = WordTextConfig | NumbersConfig


@dataclass(frozen=True)
class Defaults:
    """What a request gets where it says nothing."""

    width: int
    height: int
    steps: int
    sampler: str
    schedule: str
    guidance: float


@dataclass(frozen=True)
class System:
    """A whole latent diffusion system as data."""

    name: str
    title: str
    unet: UNetConfig
    autoencoder: AutoencoderConfig
    embedders: tuple[EmbedderConfig, ...]
    schedule: ScheduleConfig
    prediction: Prediction
    latent_scale: float
    defaults: Defaults


SYSTEMS: Registry[System] = Registry("system")
