"""Whether a picture fits into memory, told before anything is allocated."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from darkroom.errors import InputError
from darkroom.nn.memory import available_memory
from darkroom.requests.plan import Plan
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.tiling import tile_for

__all__ = ["check_memory", "fitting_rows", "needed_memory"]

# Feature maps of the finest level that live at once beside the skips: input, norms, convolution's workspace, output.
LIVE = 8
# Led to a target, the maps of the whole UNet and first stage are kept for the gradient: this many times as much
# (measured on the shipped model at 256 and 512 pixels: 11).
KEPT = 12


def needed_memory(
    model: LatentDiffusion, height: int, width: int, rows: int, *, gradient: bool = False, controls: int = 0
) -> int:
    """About how many bytes a step on `rows` latents, or decoding one, takes for pictures of this size in pixels.

    Counted are the UNet's skips, the maps that live beside them, and the first stage's at its finest resolution.
    `gradient`: through both, as guidance by a target needs it. `controls`: control networks; their sums are kept as
    large as the skips, beside what one of them gives.
    """
    unet, stage = model.unet.config, model.autoencoder.config
    h, w = height // stage.factor, width // stage.factor
    size = model.dtype.itemsize
    widened = model.system.force_upcast and model.dtype == torch.float16
    finest = unet.model_channels * unet.channel_mult[0]
    places = h * w
    skips = sum(
        unet.model_channels * m * (unet.num_res_blocks + 1) * (places >> 2 * i) for i, m in enumerate(unet.channel_mult)
    )
    step = rows * ((1 + min(controls, 2)) * skips + LIVE * 2 * finest * places) * size
    tile = tile_for(h, w)
    shown = places if tile is None or gradient else min(places, tile * tile)
    decode = LIVE * stage.channels * shown * (stage.factor // stage.patch_size) ** 2 * (4 if widened else size)
    together = KEPT * (step + rows * decode) if gradient else max(step, decode)
    return together + 4 * 3 * height * width * 4  # the picture itself, in float32, while it is put together


def fitting_rows(model: LatentDiffusion, shape: Sequence[int], rows: int, controls: int = 0) -> int:
    """How many rows of latents (…, h, w) memory holds in one call, at most `rows`; never less than one."""
    free, factor = available_memory(model.device), model.autoencoder.config.factor
    height, width = shape[-2] * factor, shape[-1] * factor
    while rows > 1 and needed_memory(model, height, width, rows, controls=controls) > free:
        rows -= 1
    return rows


def check_memory(model: LatentDiffusion, plan: Plan) -> None:
    """`InputError` with a size that would fit, where the plan's picture does not, alone."""
    free = available_memory(model.device)
    largest = max((plan, plan.second or plan), key=lambda p: p.width * p.height)
    rows = 1 if plan.guidance_scale == 1 else 2

    def needed(width: int, height: int) -> int:
        gradient, controls = plan.request.target is not None, len(plan.request.controls)
        return needed_memory(model, height, width, rows, gradient=gradient, controls=controls)

    if needed(largest.width, largest.height) <= free:
        return
    step, (w, h) = plan.step, (largest.width, largest.height)
    while needed(w, h) > free and w > step and h > step:
        w, h = max(step, int(w * 0.95) // step * step), max(step, int(h * 0.95) // step * step)
    would = f"{w}x{h} would fit" if needed(w, h) <= free else "no size would fit"
    raise InputError(
        f"{largest.width}x{largest.height} needs about {needed(largest.width, largest.height) / 2**30:.1f} GiB of "
        f"memory, free are {free / 2**30:.1f}; {would}"
    )
