"""Super-resolution of pictures of any size: in tiles that share their borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from darkroom.engine.engine import Draw
from darkroom.engine.pipeline import Events, Pipeline, drawn
from darkroom.engine.run import Desk, Picture
from darkroom.errors import InputError
from darkroom.pixels import to_bytes, to_tensor
from darkroom.requests.plan import Plan, side_step
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.tiling import tiled
from darkroom.types import Request

__all__ = ["enlarged", "enlarges", "upscale"]


def enlarges(model: LatentDiffusion) -> bool:
    """Whether the system is one for super-resolution: it reads a small picture position by position."""
    return any(e.enlarges for e in model.system.embedders)


def upscale(
    pipeline: Pipeline, requests: Sequence[Request], *, tile: int = 128, overlap: int = 32, batch_size: int = 8
) -> Events:
    """As `Pipeline.run`, each picture as `enlarged` has it."""
    draws = [enlarged(pipeline, request, tile=tile, overlap=overlap)[1] for request in requests]
    return drawn(draws, batch_size=batch_size, exact=pipeline.exact)


def enlarged(pipeline: Pipeline, request: Request, *, tile: int = 128, overlap: int = 32) -> tuple[Plan, Draw]:
    """A picture of any size, the request's `image`, by a super-resolution system: (what the result is
    like, with the steps of one tile; the work). `InputError` where it cannot be done.

    Those that the system does not take whole, above `tile` pixels a side or of odd sides, go through in tiles that
    share `overlap` and fade into each other; tile number i is drawn from the request's seed + i. Sides are filled up by
    reflection and cut again. The result has the sides of the picture times the factor of the first stage.
    """
    model = pipeline.model
    if not enlarges(model):
        raise InputError(f"{model.system.name} is no super-resolution system: it reads no small picture")
    step = side_step(model.system) // model.system.autoencoder.factor
    if tile % step or not 0 <= overlap <= tile // 2:
        raise InputError(f"tiles of {tile} that share {overlap}: expected are multiples of {step}, at most half shared")
    if request.image is None:
        raise InputError(f"{model.system.name} enlarges a picture: one must be given")
    height, width = request.image.shape[:2]
    if max(height, width) <= tile and not height % step and not width % step:
        plan = pipeline.checked(request)
        return plan, partial(pipeline.draw, plan)
    scale = model.system.autoencoder.factor
    first = pipeline.checked(replace(request, image=np.zeros((tile, tile, 3), np.uint8), width=None, height=None))
    whole = replace(first, request=request, width=width * scale, height=height * scale)
    return whole, partial(_in_tiles, pipeline, request, tile, overlap, step)


def _in_tiles(pipeline: Pipeline, request: Request, tile: int, overlap: int, step: int, desk: Desk) -> Picture:
    scale = pipeline.model.system.autoencoder.factor
    height, width = request.image.shape[:2]
    x = to_tensor(request.image[None])
    down, right = -height % step, -width % step
    # What is missing may be more than the picture holds; then its border is repeated.
    x = F.pad(x, (0, right, 0, down), mode="reflect" if down < height and right < width else "replicate")
    pictures: list[Picture] = []

    def enlarged(part: Tensor) -> Tensor:
        seed = request.seed + len(pictures)
        one = replace(request, image=to_bytes(part)[0], seed=seed, width=None, height=None)
        pictures.append(pipeline.draw(pipeline.checked(one), desk))
        return to_tensor(pictures[-1].pixels[None])

    y = to_bytes(tiled(enlarged, x, tile, overlap, scale))[0, : height * scale, : width * scale]
    plan = replace(pictures[0].plan, request=request, width=width * scale, height=height * scale)
    return Picture(y, plan, pictures[0].latent)
