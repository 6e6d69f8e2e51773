"""Samplers: `sampler(denoise, x, sigmas, noise)` yields a `Step` per step. All by name in `SAMPLERS`."""

from darkroom.diffusion.samplers import ddim, dpm_multistep, dpm_sde, euler, multistep, renoising, second_order, unipc
from darkroom.diffusion.samplers.options import options_of, with_options
from darkroom.diffusion.samplers.registry import BROWNIAN, SAMPLERS

# Each module adds its samplers to the table.
__all__ = [
    "BROWNIAN",
    "SAMPLERS",
    "ddim",
    "dpm_multistep",
    "dpm_sde",
    "euler",
    "multistep",
    "options_of",
    "renoising",
    "second_order",
    "unipc",
    "with_options",
]
