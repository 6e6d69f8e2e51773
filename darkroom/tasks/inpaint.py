"""A masked part of a picture drawn anew: by models that read the mask, or by any other inside a known surrounding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.diffusion.guidance import known_region
from darkroom.pixels import resized
from darkroom.requests.plan import Plan
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks import continuation, text_to_image
from darkroom.tasks.image_to_image import encoded
from darkroom.tasks.task import Situation, Start, Task

__all__ = ["INPAINT", "composited"]


def start(s: Situation) -> Start:
    """At full strength the run begins with noise alone: nothing of what is repainted may shine through."""
    known = encoded(s)
    if s.plan.request.latent is not None:
        x = continuation.start(s).x
    else:
        x = text_to_image.start(s).x if s.plan.strength == 1 else known + s.plan.sigmas[0] * s.noise
    if any(e.reads_mask for e in s.model.system.embedders):
        return Start(x)
    mask = _latent_mask(s.plan, s.model)
    return Start(x, lambda denoise: known_region(denoise, known, mask, s.noise))


def composited(plan: Plan, pixels: np.ndarray) -> np.ndarray:
    """The drawn pixels where the mask says so; where it is zero, exactly those of the picture that came in."""
    original = resized(plan.request.image, plan.width, plan.height)
    soft = plan.soft_mask()[..., None]
    mixed = (original + soft * (pixels.astype(np.float32) - original)).round().astype(np.uint8)
    return np.where(soft == 0, original, mixed)


def _latent_mask(plan: Plan, model: LatentDiffusion) -> Tensor:
    """(1, 1, h, w): one where any pixel under the latent's position is to be repainted."""
    mask = torch.from_numpy(plan.soft_mask() > 0).float()[None, None]
    return F.max_pool2d(mask, model.autoencoder.config.factor).to(model.device)


INPAINT = Task("inpainting", lambda s: s.plan.starts_from_image and s.plan.request.mask is not None, start)
