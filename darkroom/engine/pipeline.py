"""The walk of a request: conditioning, guided denoiser, sampler, decoder, picture."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from darkroom.diffusion.guidance import known_region
from darkroom.diffusion.samplers import with_options
from darkroom.engine.memory import fitting_batch
from darkroom.engine.prompt_loras import prompt_loras
from darkroom.errors import InputError
from darkroom.nn.memory import enough_memory
from darkroom.nn.precision import page_out
from darkroom.pictures.images import to_bytes
from darkroom.requests.plan import Plan, plan
from darkroom.systems.build import LatentDiffusion
from darkroom.tasks.guide import Clock, guided, towards_target
from darkroom.tasks.inputs import embedder_inputs, fitted
from darkroom.tasks.start import (
    embedder_generators,
    encoded,
    given_latents,
    latent_mask,
    levels,
    starting_noise,
    starting_scale,
    step_noise,
    tile_for,
    varied,
)
from darkroom.types import Denoise, NoiseSource, Request, Step

__all__ = ["Picture", "Pipeline", "Progress"]


@dataclass(frozen=True)
class Picture:
    """A finished picture: pixels uint8 (H, W, 3), the plan that made it, the latent (C, h, w) that it was decoded from.

    Where the request's stretch of the schedule ends before zero noise, the latent is still noisy and the pixels show
    the last clean estimate.
    """

    pixels: np.ndarray
    plan: Plan
    latent: Tensor


@dataclass(frozen=True)
class Progress:
    """One sampler step of one batch: which of the requests are in it and the latents (B, C, h, w) so far."""

    indices: tuple[int, ...]
    step: Step
    pass_number: int = 0  # 1 in the second pass of a high-resolution fix


class Pipeline:
    """Runs requests on one system. Nothing is kept between runs: the same request gives the same picture.

    `lora_folders`: where the LoRAs that prompts name are looked for.
    """

    def __init__(self, model: LatentDiffusion, lora_folders: Sequence[Path] = ()) -> None:
        self.model = model.eval()
        self.lora_folders = tuple(lora_folders)

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

        All requests are checked before any work. Stop iterating to cancel. Requests of one shape share batches, as far
        as memory allows; what else is in a batch does not matter to a picture.
        """
        plans = [plan(request, self.model.system) for request in requests]
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, p in enumerate(plans):
            groups.setdefault(p.batch_key, []).append(i)
        for members in groups.values():
            _check_levels(plans[members[0]], self.model)
        sizes = [fitting_batch(self.model, plans[m[0]], min(batch_size, len(m))) for m in groups.values()]
        for members, size in zip(groups.values(), sizes):
            for start in range(0, len(members), size):
                indices = tuple(members[start : start + size])
                with enough_memory(f"drawing {len(indices)} of {plans[members[0]].width}x{plans[members[0]].height}"):
                    yield from self._batch(indices, [plans[i] for i in indices])

    def _batch(self, indices: tuple[int, ...], plans: list[Plan]) -> Iterator[Progress | tuple[int, Picture]]:
        model, shared = self.model, plans[0]
        with prompt_loras(model, shared.prompt.loras, self.lora_folders):
            x, step = yield from self._pass(indices, plans, None)
            if shared.request.hires is not None:
                second = [_enlarged(p) for p in plans]
                with torch.inference_mode():
                    x = _enlarge(model, x, second)
                x, step = yield from self._pass(indices, second, x)
        if model.spares_memory:
            page_out(model.unet)
        with torch.inference_mode():
            # At the end of a stretch that is not the schedule's the clean estimate is what can be looked at.
            shown = x if shared.request.denoising_end == 1 else step.x0
            for row, (index, p) in enumerate(zip(indices, plans)):
                pixels = _decoded(model, shown[row : row + 1])[0]
                if p.request.image is not None and p.request.mask is not None:
                    pixels = _composited(p, pixels)
                yield index, Picture(pixels, p, x[row].clone())

    def _pass(
        self, indices: tuple[int, ...], plans: list[Plan], first: Tensor | None
    ) -> Generator[Progress, None, tuple[Tensor, Step]]:
        """One run of the sampler; `first`: clean latents of a first pass to draw over. Returns the last latents."""
        shared = plans[0]
        clock = Clock()
        with torch.inference_mode():
            x, sigmas, whole, noise, denoise = self._begin(plans, first, clock)
        if self.model.spares_memory:
            page_out(self.model.conditioner)
        steps = with_options(shared.sampler, shared.sampler_options)(denoise, x, sigmas, noise)
        # Prompts change by the steps of the whole schedule; over a picture by those that are run, as A1111 counts.
        skipped = 0 if shared.starts_from_image else int((whole == sigmas[0]).nonzero()[0])
        step: Step | None = None
        while True:
            clock.step = skipped + (0 if step is None else step.index + 1)
            with torch.inference_mode():  # not held open while the caller has the step
                following = next(steps, None)
            if following is None:
                break
            step = following
            if not torch.isfinite(step.x).all():
                raise InputError(f"the latent is no longer finite after step {step.index + 1} of {step.total}")
            yield Progress(indices, step, int(first is not None))
        assert step is not None, "a schedule has at least one step"
        return step.x, step

    def _begin(
        self, plans: list[Plan], first: Tensor | None, clock: Clock
    ) -> tuple[Tensor, Tensor, Tensor, NoiseSource, Denoise]:
        """(Starting latents, levels to run, all levels, noise of steps, guided denoiser)."""
        model, shared = self.model, plans[0]
        factor = model.autoencoder.config.factor
        shape = (model.autoencoder.config.latent_channels, shared.height // factor, shared.width // factor)
        noise = starting_noise(plans, shape, model.device)
        inputs = [embedder_inputs(p, model, g) for p, g in zip(plans, embedder_generators(plans, noise))]
        start = varied(plans, noise.draw())
        whole, sigmas = levels(shared, model.process)  # on the CPU: steps that depend on them wait for no device
        denoise = guided(model, plans, inputs, whole, clock)
        known = first
        if shared.starts_from_image and first is None:
            known = encoded(plans, model)
        if shared.request.latent is not None and first is None:
            x = given_latents(plans, shape, model)
        elif known is not None and (shared.strength < 1 or not _covered(model, shared)):
            x = known + sigmas[0] * start
        else:
            x = start * starting_scale(shared, sigmas[0])
        if known is not None and first is None and shared.request.mask is not None and not _reads_mask(model):
            denoise = known_region(denoise, known, latent_mask(plans, model), start)
        if shared.request.target is not None:
            denoise = towards_target(model, plans, denoise)
        if model.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        return x, sigmas, whole, step_noise(plans, noise, shape, model, sigmas), denoise


def _covered(model: LatentDiffusion, plan: Plan) -> bool:
    """Whether full strength means to begin with noise alone: nothing of what is repainted may shine through, and a
    depth map says enough (papers C.8). Plain image-to-image keeps the trace of the picture that the last level holds.
    """
    return plan.request.mask is not None or "depth" in model.conditioner.embedders


def _check_levels(plan: Plan, model: LatentDiffusion) -> None:
    """`InputError` for a run without a step, before the work of others."""
    levels(plan, model.process)
    if plan.request.hires is not None:
        levels(_enlarged(plan), model.process)


def _reads_mask(model: LatentDiffusion) -> bool:
    return "masked_image" in model.conditioner.embedders


def _decoded(model: LatentDiffusion, x: Tensor) -> np.ndarray:
    """uint8 (B, H, W, 3), large latents in tiles."""
    return to_bytes(model.decode_latents(x.to(model.dtype), tile=tile_for(*x.shape[-2:])))


def _composited(plan: Plan, pixels: np.ndarray) -> np.ndarray:
    """The drawn pixels where the mask says so; where it is zero, exactly those of the picture that came in."""
    original = fitted(plan.request.image, plan.width, plan.height)
    soft = plan.soft_mask()[..., None]
    mixed = (original + soft * (pixels.astype(np.float32) - original)).round().astype(np.uint8)
    return np.where(soft == 0, original, mixed)


def _enlarged(plan: Plan) -> Plan:
    """The second pass of a high-resolution fix as a plan."""
    hires = plan.request.hires
    assert hires is not None, "only for requests with a second pass"
    request = replace(plan.request, latent=None, denoising_start=0.0, denoising_end=1.0, sigmas=None)
    steps = plan.steps if hires.steps is None else hires.steps
    width, height = plan.second_size
    return replace(
        plan,
        request=request,
        width=width,
        height=height,
        steps=steps,
        strength=hires.strength,
        starts_from_image=True,
        former_steps=plan.steps,
    )


def _enlarge(model: LatentDiffusion, x: Tensor, plans: list[Plan]) -> Tensor:
    """Clean latents at the second pass's size."""
    shared, factor = plans[0], model.autoencoder.config.factor
    hires = shared.request.hires
    assert hires is not None, "only for requests with a second pass"
    if hires.enlarge == "latent":
        size = (shared.height // factor, shared.width // factor)
        return F.interpolate(x.float(), size=size, mode="bilinear", antialias=False)
    rows = []
    for row in x:
        picture = Image.fromarray(_decoded(model, row[None])[0])
        large = np.array(picture.resize((shared.width, shared.height), Image.Resampling.LANCZOS))
        rows.append(encoded([replace(shared, request=replace(shared.request, image=large))], model))
    return torch.cat(rows)
