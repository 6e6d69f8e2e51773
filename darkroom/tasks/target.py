"""Led by a target picture, on top of any task."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from darkroom.diffusion.guidance import target_image
from darkroom.pixels import picture_tensor
from darkroom.requests.plan import Plan
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Denoise

__all__ = ["towards_target"]


def towards_target(model: LatentDiffusion, plan: Plan, denoise: Denoise) -> Denoise:
    """`denoise` led by the target picture (papers C.6): the decoded estimate, shrunk to its size, is to equal it.

    Targets larger than an eighth of the picture are shrunk to that first: what leads is the coarse look.
    """
    coarse = (max(1, plan.height // 8), max(1, plan.width // 8))
    target = F.adaptive_avg_pool2d(picture_tensor(plan.request.target)[None], coarse).to(model.device)

    def loss(x0: Tensor) -> Tensor:
        shown = F.adaptive_avg_pool2d(model.decode_latents(x0.to(model.dtype)).float(), coarse)
        return 0.5 * (shown - target).square().flatten(1).sum(dim=1)

    return target_image(denoise, loss, plan.request.target_strength)
