"""From a picture, noised to the first level that is run (SDEdit); depth models begin with noise alone at strength 1."""

from __future__ import annotations

from torch import Tensor

from darkroom.pixels import picture_tensor, resized
from darkroom.systems.tiling import tile_for
from darkroom.tasks import text_to_image
from darkroom.tasks.task import Situation, Start, Task

__all__ = ["IMAGE_TO_IMAGE", "SECOND_PASS", "encoded"]


def encoded(s: Situation) -> Tensor:
    """The latent (1, C, h, w) of the picture that the request starts from."""
    plan, model = s.plan, s.model
    image = picture_tensor(resized(plan.request.image, plan.width, plan.height))[None]
    return model.encode_images(image.to(model.device, model.dtype), tile=tile_for(*s.noise.shape[2:])).float()


def start(s: Situation) -> Start:
    """The picture's latent, or that of a first pass, under noise of the first level."""
    # At full strength a depth map says enough of the picture (papers C.8). Plain image-to-image keeps the trace of it
    # that the last level holds.
    if s.plan.strength == 1 and any(e.tells_layout for e in s.model.system.embedders):
        return text_to_image.start(s)
    known = encoded(s) if s.first_pass is None else s.first_pass
    return Start(known + s.plan.sigmas[0] * s.noise)


IMAGE_TO_IMAGE = Task("image to image", lambda s: s.plan.starts_from_image, start)
SECOND_PASS = Task("second pass", lambda s: s.first_pass is not None, start)
