"""Where a run begins: the stretch of the schedule, the noise, and the latent at its first level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from darkroom.diffusion.noise import SeededNoise
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.seeds import PATHS, SEED_MODES, StartingNoise, slerp
from darkroom.diffusion.sigma_schedules import given, spaced
from darkroom.diffusion.truncate import between, for_strength
from darkroom.errors import InputError
from darkroom.requests.plan import Plan
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.inputs import fitted, picture_tensor
from darkroom.types import NoiseSource

__all__ = [
    "embedder_generators",
    "encoded",
    "given_latents",
    "latent_mask",
    "levels",
    "starting_noise",
    "starting_scale",
    "step_noise",
    "tile_for",
    "varied",
]

TILE = 128  # latent positions a side: what SDXL decodes at 1024 px; larger latents are decoded in tiles


def tile_for(height: int, width: int) -> int | None:
    """The tile that latents of this size go through the first stage in; None: whole."""
    return TILE if max(height, width) > TILE else None


def levels(plan: Plan, process: DiffusionProcess) -> tuple[Tensor, Tensor]:
    """(The whole schedule (n + 1,), the stretch of it that is run), falling."""
    request = plan.request
    whole = given(request.sigmas) if request.sigmas is not None else spaced(plan.schedule, process, plan.steps)
    part = whole
    if (request.denoising_start, request.denoising_end) != (0.0, 1.0):
        part = between(process, whole, request.denoising_start, request.denoising_end)
    if plan.starts_from_image and plan.strength < 1:
        part = for_strength(part, plan.strength)
    return whole, part


def starting_noise(plans: Sequence[Plan], shape: tuple[int, int, int], device: torch.device) -> StartingNoise:
    """The source of noise (B, *shape) of the plans' seed mode; `draw` gives the starting noise."""
    return SEED_MODES[plans[0].request.seed_mode]([p.request.seed for p in plans], shape, device)


def starting_scale(plan: Plan, sigma: Tensor) -> Tensor:
    """What unit noise is multiplied by where a run starts from nothing else, at the level `sigma`.

    The latents of a VP process have unit variance, so that x = z sqrt(1 + sigma²) begins with sqrt(1 + sigma²); so does
    ComfyUI. k-diffusion begins with sigma, and with it A1111, and Diffusers for some of its schedulers where the
    timesteps begin with the last.
    """
    mode, tools = SEED_MODES.name(plan.request.seed_mode), SAMPLERS[plan.sampler].starts_at_sigma
    of_a1111 = mode in ("a1111", "a1111_cpu") and "a1111" in tools
    of_diffusers = mode == "diffusers" and "diffusers" in tools and plan.schedule in ("linspace", "trailing")
    return sigma if of_a1111 or of_diffusers else (1 + sigma.square()).sqrt()


def embedder_generators(plans: Sequence[Plan], noise: StartingNoise) -> list[Generator]:
    """Generators for the noise that embedders put on their pictures, one for each picture.

    As in Diffusers they are those of the latents, which are drawn after; modes whose generators are of another make
    get fresh ones of the same seeds.
    """
    if isinstance(noise, SeededNoise):
        return noise.generators
    return [torch.Generator().manual_seed(p.request.seed) for p in plans]


def varied(plans: Sequence[Plan], start: Tensor) -> Tensor:
    """`start` (B, C, h, w) leaning to the noise of each picture's variation seed, along the arc between the two."""
    rows = []
    for plan, own in zip(plans, start):
        request = plan.request
        if request.variation_seed is None or not request.variation_strength:
            rows.append(own)
            continue
        mode = SEED_MODES[request.seed_mode]
        other = mode([request.variation_seed], own.shape, own.device).draw()
        rows.append(slerp(own[None], other, request.variation_strength)[0])
    return torch.stack(rows)


def step_noise(
    plans: Sequence[Plan], start: StartingNoise, shape: tuple[int, int, int], model: LatentDiffusion, sigmas: Tensor
) -> NoiseSource:
    """What the sampler draws from: a Brownian path where it wants one, else on from the starting noise.

    The path of this project goes over the whole process, so that it is one for any part of the schedule `sigmas`; those
    of other tools go over the levels that are run.
    """
    name = SEED_MODES.name(plans[0].request.seed_mode)
    if SAMPLERS[plans[0].sampler].noise != "brownian" or name not in PATHS:
        return start
    low, high = float(sigmas[sigmas > 0].min()), float(sigmas.max())
    if name == "darkroom":
        low, high = min(low, float(model.process.sigmas[0])), max(high, float(model.process.sigmas[-1]))
    return PATHS[name]([p.request.seed for p in plans], shape, low, high, model.device)


def encoded(plans: Sequence[Plan], model: LatentDiffusion) -> Tensor:
    """The latents (B, C, h, w) of the pictures that the plans start from."""
    factor = model.autoencoder.config.factor
    tile = tile_for(plans[0].height // factor, plans[0].width // factor)
    rows = []
    for plan in plans:  # one by one: memory, and independence of the batch
        image = picture_tensor(fitted(plan.request.image, plan.width, plan.height))[None]
        rows.append(model.encode_images(image.to(model.device, model.dtype), tile=tile).float())
    return torch.cat(rows)


def latent_mask(plans: Sequence[Plan], model: LatentDiffusion) -> Tensor:
    """(B, 1, h, w): one where any pixel under the latent's position is to be repainted."""
    masks = torch.stack([torch.from_numpy(p.soft_mask() > 0).float() for p in plans])[:, None]
    return F.max_pool2d(masks, model.autoencoder.config.factor).to(model.device)


def given_latents(plans: Sequence[Plan], shape: tuple[int, int, int], model: LatentDiffusion) -> Tensor:
    """The noisy latents that the requests go on from."""
    rows = [torch.as_tensor(p.request.latent).float() for p in plans]
    for row in rows:
        if tuple(row.shape) != shape:
            raise InputError(f"the latent has shape {list(row.shape)}, wanted is {list(shape)}")
        if not torch.isfinite(row).all():
            raise InputError("the latent to go on from is not finite")
    return torch.stack(rows).to(model.device)
