"""How many parameters the parts of a system have, counted on the meta device: exact, quick and without storage."""

from __future__ import annotations

from functools import cache

from darkroom.conditioning.embedder import EmbedderConfig
from darkroom.models.autoencoder import Autoencoder, AutoencoderConfig
from darkroom.models.unet import UNet, UNetConfig
from darkroom.systems.empty import empty_modules
from darkroom.systems.system import EMBEDDERS

__all__ = ["parameters"]


@cache  # many systems share parts
def parameters(config: UNetConfig | AutoencoderConfig | EmbedderConfig) -> int:
    """The number of parameters of the module that `config` describes."""
    with empty_modules():
        if isinstance(config, UNetConfig):
            module = UNet(config)
        elif isinstance(config, AutoencoderConfig):
            module = Autoencoder(config)
        else:
            module = EMBEDDERS[type(config)](config)
    return sum(p.numel() for p in module.parameters())
