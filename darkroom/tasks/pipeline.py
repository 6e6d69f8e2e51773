"""The walk of a prompt: request, conditioning, guided denoiser, sampler, decoder, picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from darkroom.conditioning.value import Conditioning
from darkroom.diffusion.guidance import classifier_free, paired
from darkroom.diffusion.noise import BrownianNoise, SeededNoise
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.diffusion.samplers.registry import BROWNIAN
from darkroom.diffusion.spacing import spaced
from darkroom.errors import InputError
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.images import to_bytes
from darkroom.tasks.plan import Plan, plan
from darkroom.types import Denoise, NoiseSource, Request, Step

__all__ = ["Picture", "Pipeline", "Progress"]


TILE = 128  # latent positions a side: what SDXL decodes at 1024 px; larger latents are decoded in tiles


@dataclass(frozen=True)
class Picture:
    """A finished picture: pixels uint8 (H, W, 3) and the plan that made it."""

    pixels: np.ndarray
    plan: Plan


@dataclass(frozen=True)
class Progress:
    """One sampler step of one batch: which of the requests are in it and the latents (B, C, h, w) so far."""

    indices: tuple[int, ...]
    step: Step


class Pipeline:
    """Runs requests on one system. Nothing is kept between runs: the same request gives the same picture."""

    def __init__(self, model: LatentDiffusion) -> None:
        self.model = model.eval()

    def generate(self, requests: Sequence[Request], *, batch_size: int = 8) -> list[Picture]:
        """The pictures of `requests`, in order."""
        done = {}
        for event in self.run(requests, batch_size=batch_size):
            if not isinstance(event, Progress):
                index, picture = event
                done[index] = picture
        return [done[i] for i in range(len(requests))]

    def run(self, requests: Sequence[Request], *, batch_size: int = 8) -> Iterator[Progress | tuple[int, Picture]]:
        """Yield every sampler step and every picture with its request's number.

        All requests are checked before any work. Stop iterating to cancel. Requests of one shape share batches; what
        else is in a batch does not matter to a picture.
        """
        plans = [plan(request, self.model.system) for request in requests]
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, p in enumerate(plans):
            groups.setdefault(p.batch_key, []).append(i)
        for members in groups.values():
            for start in range(0, len(members), batch_size):
                indices = tuple(members[start : start + batch_size])
                yield from self._batch(indices, [plans[i] for i in indices])

    def _batch(self, indices: tuple[int, ...], plans: list[Plan]) -> Iterator[Progress | tuple[int, Picture]]:
        model, shared = self.model, plans[0]
        with torch.inference_mode():
            denoise = self._denoiser(plans)
            factor = model.autoencoder.config.factor
            shape = (model.autoencoder.config.latent_channels, shared.height // factor, shared.width // factor)
            seeds = [p.request.seed for p in plans]
            start = SeededNoise(seeds, shape, model.device)
            noise: NoiseSource = start
            sigmas = spaced(shared.schedule, model.process, shared.steps).to(model.device)
            x = start.draw() * sigmas[0]
            if shared.sampler in BROWNIAN:
                low, high = float(model.process.sigmas[0]), float(model.process.sigmas[-1])
                noise = BrownianNoise(seeds, shape, low, high, model.device)
            if model.device.type == "cpu":
                x = x.contiguous(memory_format=torch.channels_last)
        steps = SAMPLERS[shared.sampler](denoise, x, sigmas, noise)
        while True:
            with torch.inference_mode():  # not held open while the caller has the step
                step = next(steps, None)
            if step is None:
                break
            x = step.x
            if not torch.isfinite(x).all():
                raise InputError(f"the latent is no longer finite after step {step.index + 1} of {step.total}")
            yield Progress(indices, step)
        with torch.inference_mode():
            for row, (index, p) in enumerate(zip(indices, plans)):
                # One by one, and large ones in tiles: memory, and independence of the batch.
                images = model.decode_latents(
                    x[row : row + 1].to(model.dtype), tile=TILE if max(shape[1:]) > TILE else None
                )
                yield index, Picture(to_bytes(images)[0], p)

    def _denoiser(self, plans: list[Plan]) -> Denoise:
        """Guided by the prompts, away from the negative prompts."""
        model, scale = self.model, plans[0].guidance
        inputs = [_inputs(p) for p in plans]
        told = model.encode(inputs)
        if scale == 1:
            return model.denoiser(told)
        null = model.encode_null(inputs, [p.request.negative_prompt for p in plans])
        return classifier_free(*paired(model.denoiser(Conditioning.cat([told, null]))), scale)


def _inputs(p: Plan) -> dict[str, Any]:
    """What the embedders read: the prompt, the wished size (SDXL's way, papers D.5), and what the request adds."""
    size = (p.height, p.width)
    wished = {"caption": p.request.prompt, "original_size": size, "crop": (0, 0), "target_size": size}
    return {**wished, **p.request.inputs}
