"""From a sample to what a system's embedders read; what is made of the picture itself is made here, on the fly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from darkroom.conditioning.boxes import Box, BoxesConfig, Layout
from darkroom.conditioning.embedder import EmbedderConfig
from darkroom.conditioning.image_prompt import ImagePromptConfig, PromptImage
from darkroom.conditioning.low_resolution import LowResolutionConfig, Small
from darkroom.conditioning.masked_image import Masked
from darkroom.data.degradation import DegradationConfig, degrade
from darkroom.data.masks import MaskConfig, draw_mask
from darkroom.errors import InputError
from darkroom.pixels import picture_tensor
from darkroom.systems.system import System
from darkroom.types import Sample, Size

__all__ = ["InputMaker"]

# Inputs that a sample may lack: absent, they mean what the embedder says.
OPTIONAL = ("caption", "class", "boxes", "aesthetic_score")
HINTS = {  # what gives an input that is missing
    "masked_image": "data.mask names folders of masks, [masks] has them drawn",
    "segmentation": "data.segmentation names a folder of maps",
}


@dataclass(frozen=True)
class InputMaker:
    """`masks` None: masks are the data's. `degradation`: how the small pictures of super-resolution come about."""

    system: System
    masks: MaskConfig | None = None
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    caption: Callable[[str], Any] | None = None  # what the text encoder reads in place of a caption

    def needs_pixels(self) -> bool:
        """Whether an input is made of the picture itself."""
        made = {"masked_image", "low_resolution", "image_prompt", "depth"}
        return any(config.key in made for config in self.system.embedders)

    def inputs(self, sample: Sample, rng: np.random.Generator) -> Mapping[str, Any]:
        """Inputs by embedder key; `rng` draws masks, degradations and noise. `InputError` for what the system needs and
        the data do not have."""
        return {config.key: self._input(config, sample, rng) for config in self.system.embedders}

    def _input(self, config: EmbedderConfig, sample: Sample, rng: np.random.Generator) -> Any:
        conditions, key = sample.conditions, config.key
        match key:
            case "original_size" | "crop" | "target_size":
                return getattr(sample, key)
            case "caption" if self.caption is not None:
                return self.caption(conditions.get(key, ""))
            case "boxes" if "boxes" in conditions:
                assert isinstance(config, BoxesConfig)
                return _layout(sample, config.objects, rng)
            case "segmentation" if key in conditions:
                return torch.from_numpy(np.ascontiguousarray(conditions[key]))
            case "depth":
                return _map(conditions[key]) if key in conditions else picture_tensor(sample.image)
            case "masked_image" if self.masks is not None or "mask" in conditions:
                mask = conditions["mask"] if self.masks is None else self._mask(sample, self.masks, rng)
                return Masked(picture_tensor(sample.image), _map(mask))
            case "low_resolution":
                assert isinstance(config, LowResolutionConfig)
                return self._small(config, sample.image, rng)
            case "image_prompt":
                assert isinstance(config, ImagePromptConfig)
                level = int(rng.integers(config.levels.highest, endpoint=True))
                return PromptImage(picture_tensor(sample.image), level, _noise((config.tower.projection,), rng))
        if key in conditions:
            return conditions[key]
        if key in OPTIONAL:
            return None
        hint = HINTS.get(key)
        raise InputError(f"the model reads {key}, which the data do not have{f': {hint}' if hint else ''}")

    def _mask(self, sample: Sample, masks: MaskConfig, rng: np.random.Generator) -> np.ndarray:
        return draw_mask(Size(*sample.image.shape[:2]), masks, rng)

    def _small(self, config: LowResolutionConfig, image: np.ndarray, rng: np.random.Generator) -> Small:
        """A small picture of the latent's size, noised to a random level where the system has levels."""
        small = picture_tensor(degrade(image, self.system.autoencoder.factor, self.degradation, rng))
        if config.levels is None:
            return Small(small)
        level = int(rng.integers(config.levels.highest, endpoint=True))
        return Small(small, level, _noise(tuple(small.shape), rng))


def _map(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None].float()


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


def _layout(sample: Sample, most: int, rng: np.random.Generator) -> Layout:
    """Boxes in random order, as many as the embedder takes, and what part of the original is shown (papers D.2)."""
    boxes, whole, shown = sample.conditions["boxes"], sample.original_size, sample.target_size or sample.original_size
    scale = max(shown.height / whole.height, shown.width / whole.width)
    top, left = sample.crop[0] / (whole.height * scale), sample.crop[1] / (whole.width * scale)
    bottom, right = top + shown.height / (whole.height * scale), left + shown.width / (whole.width * scale)
    crop = (min(left, 1.0), min(top, 1.0), min(right, 1.0), min(bottom, 1.0))
    return Layout(tuple(Box(*boxes[i]) for i in rng.permutation(len(boxes))[:most]), crop)
