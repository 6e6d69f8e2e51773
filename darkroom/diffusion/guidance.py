"""Guidance: wrappers of a denoiser that are denoisers themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from darkroom.types import Denoise

__all__ = ["classifier_free"]


def classifier_free(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """D_u + scale · (D_c − D_u) (papers C.5). At scale 1 the unconditional half is not computed."""
    if scale == 1:
        return conditional

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        base = unconditional(x, sigma)
        return torch.lerp(base, conditional(x, sigma), scale)

    return denoise
