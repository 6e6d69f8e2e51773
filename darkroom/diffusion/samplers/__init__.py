"""Samplers: `sampler(denoise, x, sigmas, noise)` yields a `Step` per step. All by name in `SAMPLERS`."""

from darkroom.diffusion.samplers import ddim, dpm_multistep, euler
from darkroom.diffusion.samplers.registry import SAMPLERS

__all__ = ["SAMPLERS", "ddim", "dpm_multistep", "euler"]  # each module adds its samplers to the table
