"""From a sample to what a system's embedders read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from darkroom.conditioning.boxes import Box, Layout
from darkroom.conditioning.masked_image import Masked
from darkroom.errors import InputError
from darkroom.pixels import to_tensor
from darkroom.types import Sample

__all__ = ["embedder_inputs", "needs_pixels"]

# Inputs that a sample may lack: absent, they mean what the embedder says.
OPTIONAL = ("caption", "class", "boxes", "aesthetic_score")
OF_PIXELS = ("masked_image",)


def needs_pixels(embedders: nn.ModuleDict) -> bool:
    """Whether what these embedders read is made from the picture itself."""
    return any(key in embedders for key in OF_PIXELS)


def embedder_inputs(sample: Sample, embedders: nn.ModuleDict) -> Mapping[str, Any]:
    """Inputs by embedder key; `InputError` for what the system needs and the data do not have."""
    return {key: _input(key, sample) for key in embedders}


def _input(key: str, sample: Sample) -> Any:
    conditions = sample.conditions
    match key:
        case "original_size":
            return sample.original_size
        case "crop":
            return sample.crop
        case "target_size":
            return sample.target_size
        case "boxes" if "boxes" in conditions:
            return Layout(tuple(Box(*box) for box in conditions["boxes"]))
        case "segmentation" if "segmentation" in conditions:
            return torch.from_numpy(np.ascontiguousarray(conditions["segmentation"]))
        case "depth" if "depth" in conditions:
            return torch.from_numpy(np.ascontiguousarray(conditions["depth"]))[None].float()
        case "masked_image" if "mask" in conditions:
            mask = torch.from_numpy(np.ascontiguousarray(conditions["mask"]))[None].float()
            return Masked(to_tensor(sample.image[None])[0], mask)
    if key in conditions:
        return conditions[key]
    if key in OPTIONAL:
        return None
    raise InputError(f"the model reads {key}, which the data do not have")
