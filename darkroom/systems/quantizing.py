"""Which layers of a system are worth eight bits."""

from __future__ import annotations

from darkroom.models.clip import ClipTextTower
from darkroom.models.text_transformer import TextTransformer
from darkroom.nn.blocks import AttentionBlock, SpatialTransformer
from darkroom.nn.quantized import find_format, quantize
from darkroom.systems.build import LatentDiffusion

__all__ = ["quantize_system"]


def quantize_system(model: LatentDiffusion, name: str) -> None:
    """Round the large linear layers of the UNet's attention and of the text encoders to the format `name`, in place.

    First and last layers, embeddings, norms and convolutions stay: rounding costs most there and gains least. The first
    stage stays as a whole. `InputError` where the model's device has no fast products in that format.
    """
    form = find_format(name, model.device)
    for module in model.unet.modules():
        if isinstance(module, SpatialTransformer | AttentionBlock):
            quantize(module, form)
    for module in model.conditioner.modules():
        if isinstance(module, ClipTextTower | TextTransformer):
            quantize(module.layers, form)
