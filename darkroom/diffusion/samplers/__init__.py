"""Samplers: `sampler(denoise, x, sigmas, noise)` yields a `Step` per step. All by name in `SAMPLERS`."""

from darkroom.diffusion.samplers.registry import SAMPLERS
from darkroom.diffusion.samplers import ddim, dpm_multistep, euler  # isort: skip  # each adds itself to SAMPLERS

__all__ = ["SAMPLERS", "ddim", "dpm_multistep", "euler"]
