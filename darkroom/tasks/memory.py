"""Whether a picture fits into memory, told before anything is allocated."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.plan import Plan, side_step
from darkroom.tasks.start import tile_for

__all__ = ["available_memory", "needed_memory", "refuse_what_does_not_fit"]

# Feature maps of the finest level that live at once beside the skips: input, norms, convolution's workspace, output.
LIVE = 8


def available_memory(device: torch.device) -> int:
    """Bytes that a run on `device` may still take."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def needed_memory(model: LatentDiffusion, height: int, width: int, rows: int) -> int:
    """About how many bytes a step on `rows` latents, or decoding one, takes for pictures of this size in pixels.

    Counted are the UNet's skips, the maps that live beside them, and the first stage's at its finest resolution.
    """
    unet, stage = model.unet.config, model.autoencoder.config
    h, w = height // stage.factor, width // stage.factor
    size = torch.finfo(model.dtype).bits // 8
    finest = unet.model_channels * unet.channel_mult[0]
    places = h * w
    skips = sum(
        unet.model_channels * m * (unet.num_res_blocks + 1) * (places >> 2 * i) for i, m in enumerate(unet.channel_mult)
    )
    step = rows * (skips + LIVE * 2 * finest * places) * size
    tile = tile_for(h, w)
    shown = min(places, tile * tile) if tile is not None else places
    decode = LIVE * stage.channels * shown * (stage.factor // stage.patch_size) ** 2 * size
    return max(step, decode) + 4 * 3 * height * width * 4  # the picture itself, in float32, while it is put together


def refuse_what_does_not_fit(model: LatentDiffusion, plan: Plan, batch: int) -> None:
    """`InputError` with a size that would fit, where `batch` pictures of the plan would not."""
    free = available_memory(model.device)
    sizes = [(plan.width, plan.height)] + ([plan.second_size] if plan.request.hires is not None else [])
    width, height = max(sizes, key=lambda s: s[0] * s[1])
    rows = batch * (1 if plan.guidance == 1 else 2)
    needed = needed_memory(model, height, width, rows)
    if needed <= free:
        return
    step = side_step(model.system)
    w, h = width, height
    while needed_memory(model, h, w, rows // batch) > free and w > step and h > step:
        w, h = max(step, int(w * 0.95) // step * step), max(step, int(h * 0.95) // step * step)
    raise InputError(
        f"{width}x{height} with {batch} at once needs about {needed / 2**30:.1f} GiB of memory, free are "
        f"{free / 2**30:.1f}; one picture of {w}x{h} would fit"
    )
