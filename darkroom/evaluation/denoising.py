"""What models make of the same noised latents: the surest way to tell a model from what it was trained to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.draws import RowDraws, sample_seed
from darkroom.errors import InputError
from darkroom.evaluation.inputs import Scenes, unseen
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.pixels import to_tensor
from darkroom.systems.build import LatentDiffusion
from darkroom.types import Size

__all__ = ["Denoised", "denoised"]

BATCH = 16


@dataclass(frozen=True)
class Denoised:
    """`gain`: over the first model, scene by scene."""

    model: str
    psnr: Measured  # of estimates of clean latents, in dB of their own variance
    gain: Measured


@torch.no_grad()
def denoised(models: Sequence[tuple[str, LatentDiffusion]], count: int, timesteps: range) -> list[Denoised]:
    """Each of `models` (name, model) on `count` unseen scenes that are noised to `timesteps`, spread evenly, and told
    their captions. `InputError` where they do not share their latents and noise."""
    system = models[0][1].system
    for _, model in models:
        own = model.system
        shared = (own.autoencoder, own.schedule, own.latent_scale, own.defaults.height)
        if shared != (system.autoencoder, system.schedule, system.latent_scale, system.defaults.height):
            raise InputError(f"{own.name} and {system.name} differ in first stage, noise schedule or size")
    world = unseen(count, Size(system.defaults.height, system.defaults.width), 2)
    latents = torch.cat([models[0][1].encode_images(p) for p in to_tensor(world.pixels).split(BATCH)])
    scale = float(latents.var())
    errors = [_errors(model, latents, world, timesteps) for _, model in models]
    values = [-10 * np.log10(e / scale) for e in errors]
    return [Denoised(name, mean_of(v), mean_of(v - values[0])) for (name, _), v in zip(models, values)]


def _errors(model: LatentDiffusion, latents: Tensor, world: Scenes, timesteps: range) -> np.ndarray:
    """Mean squared errors (N,) of the estimates of `latents`."""
    process, size, found = model.process, world.size, []
    told = {"original_size": size, "crop": (0, 0), "target_size": size}
    for start in range(0, len(world), BATCH):
        numbers = range(start, min(start + BATCH, len(world)))
        z = latents[start : numbers.stop]
        t = torch.tensor([timesteps[(2 * i + 1) * len(timesteps) // (2 * len(world))] for i in numbers])
        noise = RowDraws([sample_seed(0, i) for i in numbers]).normal(*z.shape[1:])
        conditioning = model.conditioner.condition([{"caption": world.captions[i], **told} for i in numbers])
        sigma = process.sigmas[t].float()
        denoise = process.denoiser(partial(_network, model, conditioning))
        x0 = denoise(z + sigma.view(-1, 1, 1, 1) * noise, sigma)
        found.append((x0 - z).square().flatten(1).mean(dim=1))
    return torch.cat(found).double().numpy()


def _network(model: LatentDiffusion, conditioning: Conditioning, x: Tensor, t: Tensor) -> Tensor:
    return model.network(x, t, conditioning)
