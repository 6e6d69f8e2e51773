"""Samplers: `sampler(denoise, x, sigmas, noise)` yields a `Step` per step. All by name in `SAMPLERS`."""

from darkroom.diffusion.samplers import ddim, dpm_multistep, dpm_sde, euler, multistep, renoising, second_order, unipc
from darkroom.diffusion.samplers.registry import (
    SAMPLERS,
    SamplerEntry,
    add_sampler,
    options_of,
    resolve,
    split_name,
    with_options,
)

# Each module adds its samplers to the table.
__all__ = [
    "SAMPLERS",
    "SamplerEntry",
    "add_sampler",
    "ddim",
    "dpm_multistep",
    "dpm_sde",
    "euler",
    "multistep",
    "options_of",
    "renoising",
    "resolve",
    "second_order",
    "split_name",
    "unipc",
    "with_options",
]
