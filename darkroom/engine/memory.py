"""Whether a picture fits into memory, told before anything is allocated."""

from __future__ import annotations

import torch

from darkroom.errors import InputError
from darkroom.nn.memory import available_memory
from darkroom.requests.plan import Plan, side_step
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.start import tile_for

__all__ = ["fitting_batch", "needed_memory"]

# Feature maps of the finest level that live at once beside the skips: input, norms, convolution's workspace, output.
LIVE = 8
# Led to a target, the maps of the whole UNet and first stage are kept for the gradient: this many times as much
# (measured on the shipped model at 256 and 512 pixels: 11).
KEPT = 12


def needed_memory(model: LatentDiffusion, height: int, width: int, rows: int, *, gradient: bool = False) -> int:
    """About how many bytes a step on `rows` latents, or decoding one, takes for pictures of this size in pixels.

    Counted are the UNet's skips, the maps that live beside them, and the first stage's at its finest resolution.
    `gradient`: through both, as guidance by a target needs it.
    """
    unet, stage = model.unet.config, model.autoencoder.config
    h, w = height // stage.factor, width // stage.factor
    size = model.dtype.itemsize
    widened = model.system.stage_overflows and model.dtype == torch.float16
    finest = unet.model_channels * unet.channel_mult[0]
    places = h * w
    skips = sum(
        unet.model_channels * m * (unet.num_res_blocks + 1) * (places >> 2 * i) for i, m in enumerate(unet.channel_mult)
    )
    step = rows * (skips + LIVE * 2 * finest * places) * size
    tile = tile_for(h, w)
    shown = places if tile is None or gradient else min(places, tile * tile)
    decode = LIVE * stage.channels * shown * (stage.factor // stage.patch_size) ** 2 * (4 if widened else size)
    together = KEPT * (step + rows * decode) if gradient else max(step, decode)
    return together + 4 * 3 * height * width * 4  # the picture itself, in float32, while it is put together


def fitting_batch(model: LatentDiffusion, plan: Plan, batch: int) -> int:
    """How many pictures of the plan fit at once, at most `batch`; `InputError` with a size that would, if not even one
    does.
    """
    free = available_memory(model.device)
    sizes = [(plan.width, plan.height)] + ([plan.second_size] if plan.request.hires is not None else [])
    width, height = max(sizes, key=lambda s: s[0] * s[1])
    rows = 1 if plan.guidance_scale == 1 else 2

    def needed(w: int, h: int, count: int) -> int:
        return needed_memory(model, h, w, rows * count, gradient=plan.request.target is not None)

    while batch > 1 and needed(width, height, batch) > free:
        batch -= 1
    if needed(width, height, batch) <= free:
        return batch
    step = side_step(model.system)
    w, h = width, height
    while needed(w, h, 1) > free and w > step and h > step:
        w, h = max(step, int(w * 0.95) // step * step), max(step, int(h * 0.95) // step * step)
    would = f"{w}x{h} would fit" if needed(w, h, 1) <= free else "no size would fit"
    raise InputError(
        f"{width}x{height} needs about {needed(width, height, 1) / 2**30:.1f} GiB of memory, free are "
        f"{free / 2**30:.1f}; {would}"
    )
