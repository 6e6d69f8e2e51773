"""stable-diffusion.cpp as a contender, where its Python binding is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import torch

from darkroom.types import Request

__all__ = ["stable_diffusion_cpp"]


def stable_diffusion_cpp(checkpoint: Path, request: Request) -> Callable[[], None]:
    """Draws `request` on the CPU: weights in the precision of the file, arithmetic as it likes.

    Its vocabulary and its noise are its own, so there is no answer to compare; the work is the same.
    """
    binding = importlib.import_module("stable_diffusion_cpp")
    model = binding.StableDiffusion(
        model_path=str(checkpoint), n_threads=torch.get_num_threads(), diffusion_flash_attn=True, verbose=False
    )

    def run() -> None:
        model.generate_image(
            prompt=request.prompt,
            width=request.width,
            height=request.height,
            cfg_scale=request.guidance_scale,
            sample_method="ddim_trailing",
            sample_steps=request.steps,
            seed=request.seed,
        )

    return run
