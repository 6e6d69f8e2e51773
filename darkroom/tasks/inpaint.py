"""A masked part of a picture drawn anew: by models that read the mask, or by any other inside a known surrounding."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.diffusion.guidance import known_region
from darkroom.pixels import resized, softened
from darkroom.requests.plan import Plan
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks import continuation, text_to_image
from darkroom.tasks.image_to_image import encoded
from darkroom.tasks.task import Situation, Start, Task

__all__ = ["INPAINT", "Part", "composited", "masked_part", "part_of"]


@dataclass(frozen=True)
class Part:
    """A part of a picture, in pixels; `right` and `bottom` are the first that do not belong to it."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, pixels: np.ndarray) -> np.ndarray:
        """A view of what lies there: (H, W, …)."""
        return pixels[self.top : self.bottom, self.left : self.right]


def part_of(mask: np.ndarray, padding: int, width: int, height: int) -> Part:
    """The box of a mask (H, W) with `padding` around it, in the shape of `width` by `height` as far as there is room.

    As A1111's "only masked" and Diffusers' `padding_mask_crop` choose it.
    """
    inside = np.asarray(mask) > 0
    (left, right), (top, bottom) = (_padded(np.any(inside, axis=axis), padding) for axis in (0, 1))
    if (right - left) * height > (bottom - top) * width:
        top, bottom = _stretched(top, bottom, (right - left) * height // width, inside.shape[0])
    else:
        left, right = _stretched(left, right, (bottom - top) * width // height, inside.shape[1])
    return Part(left, top, right, bottom)


def _padded(covered: np.ndarray, padding: int) -> tuple[int, int]:
    places = np.flatnonzero(covered)
    return max(0, int(places[0]) - padding), min(covered.size, int(places[-1]) + 1 + padding)


def _stretched(first: int, end: int, length: int, room: int) -> tuple[int, int]:
    length = min(length, room)
    first = min(max(0, first - (length - (end - first)) // 2), room - length)
    return first, first + length


def masked_part(plan: Plan) -> Plan:
    """What is drawn where `plan` asks for the masked part alone: a plan of that part, at the same size.

    Hints of the picture's own size are cut with it.
    """
    request = plan.request
    if not request.draws_part:
        return plan
    part = _part(plan)
    sides = request.image.shape[:2]
    controls = tuple(
        replace(unit, image=part.of(unit.image)) if unit.image.shape[:2] == sides else unit for unit in request.controls
    )
    blur = request.mask_blur * plan.width / (part.right - part.left)
    cut = replace(
        request,
        image=part.of(request.image),
        mask=part.of(_whole_mask(plan)),
        mask_blur=blur,
        mask_padding=None,
        controls=controls,
    )
    return replace(plan, request=cut)


def _part(plan: Plan) -> Part:
    assert plan.request.mask_padding is not None, "only where the masked part is drawn alone"
    return part_of(_whole_mask(plan), plan.request.mask_padding, plan.width, plan.height)


def _whole_mask(plan: Plan) -> np.ndarray:
    """bool (H, W), of the size of the picture that came in."""
    height, width = plan.request.image.shape[:2]
    return resized(np.asarray(plan.request.mask) > 0, width, height)


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
    """The drawn pixels where the mask says so; where it is zero, exactly those of the picture that came in.

    Where the masked part alone was drawn, the whole picture at its own size with that part in its place.
    """
    if plan.request.draws_part:
        part, whole = _part(plan), plan.request.image.copy()
        drawn, soft = part.of(whole), part.of(softened(_whole_mask(plan), plan.request.mask_blur))
        drawn[:] = _mixed(drawn, resized(pixels, drawn.shape[1], drawn.shape[0]), soft)
        return whole
    return _mixed(resized(plan.request.image, plan.width, plan.height), pixels, plan.soft_mask())


def _mixed(original: np.ndarray, pixels: np.ndarray, soft: np.ndarray) -> np.ndarray:
    soft = soft[..., None]
    mixed = (original + soft * (pixels.astype(np.float32) - original)).round().astype(np.uint8)
    return np.where(soft == 0, original, mixed)


def _latent_mask(plan: Plan, model: LatentDiffusion) -> Tensor:
    """(1, 1, h, w): one where any pixel under the latent's position is to be repainted."""
    mask = torch.from_numpy(plan.soft_mask() > 0).float()[None, None]
    return F.max_pool2d(mask, model.autoencoder.config.factor).to(model.device)


INPAINT = Task("inpainting", lambda s: s.plan.starts_from_image and s.plan.request.mask is not None, start)
