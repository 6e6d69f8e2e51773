"""Work of whole pictures: text encoding, guided steps, decoding, from one checkpoint and the same starting noise."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.checkpoint import Checkpoint, write_checkpoint
from benchmarks.measure import counted, timed
from benchmarks.stable_diffusion_cpp import stable_diffusion_cpp
from benchmarks.work import BASE, Contest, Settings, Work
from darkroom.checkpoints.diffusers_config import pipeline_class
from darkroom.checkpoints.model import load_model
from darkroom.engine.pipeline import Pipeline
from darkroom.nn.precision import fast_half
from darkroom.systems.system import System
from darkroom.types import Request

__all__ = ["Drawn", "by_diffusers", "by_us", "picture"]

STEPS = 20


@dataclass(frozen=True)
class Drawn:
    """A picture uint8 (H, W, 3) and the latent (C, h, w) that it was decoded from."""

    pixels: np.ndarray
    latent: Tensor


def picture(system: System, side: int, steps: int = STEPS) -> Work:
    """DDIM without noise of its own, where all sides can be told the same timesteps. Latents are compared."""
    request = Request(
        "a red cat",
        width=side,
        height=side,
        steps=steps,
        guidance_scale=system.defaults.guidance_scale,
        sampler="DDIM",
        schedule="leading",
        seed_mode="diffusers",
    )

    def prepare(settings: Settings) -> Contest:
        checkpoint, dtype, device = write_checkpoint(system, settings.folder), settings.dtype, settings.device
        pipeline = load_diffusers(checkpoint, system, device)
        exact, flop = counted(lambda: by_diffusers(pipeline, request).latent)
        pipeline.to(dtype)
        natural = fast_half(device) or torch.float32
        ours = Pipeline(load_model(str(checkpoint.file), str(device), None if dtype == natural else dtype).model)
        runs: dict[str, Callable[[], Tensor | None]] = {
            "darkroom": lambda: by_us(ours, request).latent,
            BASE: lambda: by_diffusers(pipeline, request).latent,
        }
        if settings.compiled:
            fast = type(pipeline)(**pipeline.components)  # the same networks
            fast.unet = torch.compile(pipeline.unet)
            fast.set_progress_bar_config(disable=True)
            runs["diffusers compiled"] = lambda: by_diffusers(fast, request).latent
            runs["diffusers compiled"]()  # compiling is no part of its first turn
        if find_spec("stable_diffusion_cpp") is not None and device.type == "cpu":
            runs["stable-diffusion.cpp"] = stable_diffusion_cpp(checkpoint.file, request)
        return Contest({name: timed(run) for name, run in runs.items()}, exact, flop)

    return Work(f"picture, {system.title}, {side} px, {steps} steps", prepare)


def by_us(pipeline: Pipeline, request: Request) -> Drawn:
    (found,) = pipeline.generate([request])
    return Drawn(found.pixels, found.latent)


def load_diffusers(checkpoint: Checkpoint, system: System, device: torch.device) -> Any:
    """The peer's pipeline for `system` in float32, with the request's sampler."""
    diffusers = importlib.import_module("diffusers")
    pipeline = getattr(diffusers, pipeline_class(system)).from_single_file(
        str(checkpoint.file), config=str(checkpoint.config), torch_dtype=torch.float32, local_files_only=True
    )
    config = {**pipeline.scheduler.config, "timestep_spacing": "leading"}
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def by_diffusers(pipeline: Any, request: Request) -> Drawn:
    """The peer's picture; of its last latents a copy is kept on the way."""
    latents: list[Tensor] = []

    def keep(pipeline: Any, step: int, timestep: Tensor, held: dict[str, Tensor]) -> dict[str, Tensor]:
        latents[:] = held["latents"]
        return {}

    (found,) = pipeline(
        request.prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
        callback_on_step_end=keep,
        output_type="pil",
    ).images
    return Drawn(np.asarray(found), latents[0])
