"""Whether a picture fits into memory, told before anything is allocated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.plan import Plan, side_step
from darkroom.tasks.start import tile_for

__all__ = ["available_memory", "enough_memory", "fitting_batch", "needed_memory"]

# Feature maps of the finest level that live at once beside the skips: input, norms, convolution's workspace, output.
LIVE = 8
# Led to a target, the maps of the whole UNet and first stage are kept for the gradient: this many times as much
# (measured on the shipped model at 256 and 512 pixels: 11).
KEPT = 12
# (limit, use) of a control group's memory in bytes, version 2 and version 1.
GROUPS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def available_memory(device: torch.device) -> int:
    """Bytes that a run on `device` may still take."""
    if device.type == "cuda":
        # What PyTorch keeps for later counts as used to the device.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return min((_free_on_machine(), *_free_in_groups(Path("/sys/fs/cgroup"))))


def _free_on_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _free_in_groups(root: Path) -> Iterator[int]:
    """What the limits of a container leave, where there are any."""
    for limit, use in GROUPS:
        try:
            left = int((root / limit).read_text()) - int((root / use).read_text())
            statistics = (root / limit).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):  # no such file, or "max"
            continue
        # What is kept of files counts as used, mapped weights too, yet makes way when memory is wanted.
        kept = (
            int(n) for name, n in zip(statistics[::2], statistics[1::2]) if name in ("active_file", "inactive_file")
        )
        yield max(0, left + sum(kept))


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


@contextmanager
def enough_memory(work: str) -> Iterator[None]:
    """Where the device runs out of memory during `work`, `InputError` with what to try."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(
            f"{work} takes more memory than the device has left; try --memory low, a smaller size or fewer at once"
        ) from None


def fitting_batch(model: LatentDiffusion, plan: Plan, batch: int) -> int:
    """How many pictures of the plan fit at once, at most `batch`; `InputError` with a size that would, if not even one
    does.
    """
    free = available_memory(model.device)
    sizes = [(plan.width, plan.height)] + ([plan.second_size] if plan.request.hires is not None else [])
    width, height = max(sizes, key=lambda s: s[0] * s[1])
    rows = 1 if plan.guidance == 1 else 2

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
