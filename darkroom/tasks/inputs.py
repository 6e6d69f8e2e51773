"""What the embedders read, out of a request: pictures as tensors, sizes, noise levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from darkroom.conditioning.boxes import Box, Layout
from darkroom.conditioning.image_prompt import ImagePrompt, PromptImage
from darkroom.conditioning.low_resolution import LowResolution, LowResolutionConfig, Small
from darkroom.conditioning.masked_image import Masked
from darkroom.errors import InputError
from darkroom.pictures.images import fitted, picture_tensor
from darkroom.requests.plan import Plan
from darkroom.systems.build import LatentDiffusion

__all__ = ["embedder_inputs"]


def embedder_inputs(plan: Plan, model: LatentDiffusion, generator: Generator) -> dict[str, Any]:
    """The inputs of `model`'s embedders by key. Noise on low-resolution pictures and image prompts is `generator`'s.

    The wished size is told SDXL's way (papers D.5): original and target size are the picture's, nothing is cut off.
    """
    request, size = plan.request, (plan.height, plan.width)
    inputs: dict[str, Any] = {"original_size": size, "crop": (0, 0), "target_size": size, **request.inputs}
    keys = set(model.conditioner.embedders)
    level = inputs.pop("noise_level", None)
    if "masked_image" in keys and request.image is not None and request.mask is not None:
        image = picture_tensor(fitted(request.image, plan.width, plan.height))
        inputs["masked_image"] = Masked(image, torch.from_numpy(plan.mask()).float()[None])
    if "low_resolution" in keys:
        small = inputs.get("low_resolution", request.image)
        if small is None:
            raise InputError(f"{model.system.name} enlarges a picture: one must be given")
        image = _tensor("low_resolution", small)
        config: LowResolutionConfig = cast("LowResolution", model.conditioner.embedders["low_resolution"]).config
        if config.levels is not None:
            noise = torch.randn(image.shape, generator=generator)
            inputs["low_resolution"] = Small(image, config.default_level if level is None else level, noise)
        else:
            inputs["low_resolution"] = image
    if "image_prompt" in keys:
        prompt = inputs.get("image_prompt", request.image)
        if prompt is not None:
            embedder = cast("ImagePrompt", model.conditioner.embedders["image_prompt"])
            noise = torch.randn(embedder.config.tower.projection, generator=generator)
            inputs["image_prompt"] = PromptImage(_tensor("image_prompt", prompt), level or 0, noise)
    if "depth" in keys:
        depth = inputs.get("depth")
        depth = request.image if depth is None else depth
        if depth is None:
            raise InputError(f"{model.system.name} draws over a depth map: a picture or a map must be given")
        inputs["depth"] = _sized(_tensor("depth", depth), plan)
    if "segmentation" in keys:
        inputs["segmentation"] = _map(inputs.get("segmentation"), plan)
    if "boxes" in keys and inputs.get("boxes") is not None:
        inputs["boxes"] = _layout(inputs["boxes"])
    return inputs


def _tensor(key: str, value: Any) -> Tensor:
    """A picture, map or embedding as the embedders want it."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return picture_tensor(array)
    if array.ndim == 2 and array.dtype.kind in "uif":
        return torch.from_numpy(array.astype(np.float32))[None]
    if array.ndim == 1 and array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    raise InputError(f"{key} has shape {list(array.shape)} of {array.dtype}, wanted is a picture (H, W, 3) of uint8")


def _sized(value: Tensor, plan: Plan) -> Tensor:
    """A picture or map (C, H, W) at the size of the picture that is drawn."""
    if value.shape[1:] == (plan.height, plan.width):
        return value
    size = (plan.height, plan.width)
    return F.interpolate(value[None].float(), size=size, mode="bilinear", antialias=True, align_corners=False)[0]


def _map(value: Any, plan: Plan) -> Tensor:
    if value is None:
        raise InputError("segmentation is missing: this system needs a map (H, W) of classes")
    array = value.numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim != 2 or array.dtype.kind not in "ui":
        raise InputError(f"segmentation has shape {list(array.shape)} of {array.dtype}, wanted are classes (H, W)")
    if array.shape != (plan.height, plan.width):
        rows = np.arange(plan.height) * array.shape[0] // plan.height
        columns = np.arange(plan.width) * array.shape[1] // plan.width
        array = array[rows][:, columns]  # to the nearest: classes cannot be mixed
    return torch.from_numpy(array.astype(np.int64))


def _layout(value: Any) -> Layout:
    """Boxes as `Box`es, or as mappings with their fields (as JSON files hold them)."""
    if isinstance(value, Layout):
        return value
    boxes = []
    for entry in value:
        if isinstance(entry, Box):
            boxes.append(entry)
        elif isinstance(entry, Mapping):
            try:
                boxes.append(Box(**entry))
            except TypeError:
                raise InputError(f"box {dict(entry)} is wrong, wanted are label, x0, y0, x1, y1") from None
        else:
            raise InputError(f"box {entry!r} is wrong, wanted are label, x0, y0, x1, y1")
    return Layout(tuple(boxes))
