"""All noise of one picture, from its own seed, in the order in which its tool draws."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from darkroom.diffusion.noise import SeededNoise
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.seeds import PATHS, SEED_MODES, slerp
from darkroom.requests.plan import Plan
from darkroom.types import NoiseSource

__all__ = ["Draws"]


class Draws:
    """Noise for a latent of `shape` (C, h, w): for the embedders first, then the start, then the steps."""

    def __init__(self, plan: Plan, shape: tuple[int, int, int], device: torch.device) -> None:
        self.plan, self.shape, self.device = plan, shape, device
        self.mode = SEED_MODES.name(plan.request.seed_mode)
        self.source = SEED_MODES[self.mode](
            [plan.request.seed], shape, device, step_delta=plan.request.eta_noise_seed_delta
        )

    @property
    def generator(self) -> Generator:
        """For the noise that embedders put on their pictures.

        As in Diffusers it is that of the latents, which are drawn after; modes whose generators are of another make get
        a fresh one of the same seed.
        """
        if isinstance(self.source, SeededNoise):
            return self.source.generators[0]
        return torch.Generator().manual_seed(self.plan.request.seed)

    def start(self) -> Tensor:
        """(1, C, h, w), leaning to the noise of the variation seed along the arc between the two."""
        own, request = self.source.draw(), self.plan.request
        if request.variation_seed is None or not request.variation_strength:
            return own
        other = SEED_MODES[self.mode]([request.variation_seed], self.shape, self.device).draw()
        return slerp(own, other, request.variation_strength)

    def steps(self, process: DiffusionProcess) -> NoiseSource:
        """What the sampler draws from: a Brownian path where it reads one, else on from the starting noise.

        The path of this project goes over the whole process, so that it is one for any part of the schedule; those of
        other tools go over the levels that are run.
        """
        if SAMPLERS[self.plan.sampler].noise != "brownian" or self.mode not in PATHS:
            return self.source
        sigmas = self.plan.sigmas
        low, high = float(sigmas[sigmas > 0].min()), float(sigmas.max())
        if self.mode == "darkroom":
            low, high = min(low, float(process.sigmas[0])), max(high, float(process.sigmas[-1]))
        return PATHS[self.mode]([self.plan.request.seed], self.shape, low, high, self.device)
