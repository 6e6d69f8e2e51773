"""One picture, from its plan to its pixels. It knows of no other picture; `Desk` joins what runs ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.guidance import WithUncond
from darkroom.diffusion.samplers import SAMPLERS
from darkroom.engine.ask import Ask
from darkroom.engine.controls import ControlShelf, RunControl, ready
from darkroom.engine.loras import LoraShelf
from darkroom.errors import InputError
from darkroom.nn.lora import adapted
from darkroom.nn.precision import page_out
from darkroom.pixels import to_bytes
from darkroom.requests.plan import Plan
from darkroom.systems.build import LatentDiffusion, RunFeatures
from darkroom.systems.tiling import tile_for
from darkroom.tasks.catalog import begin
from darkroom.tasks.draws import Draws
from darkroom.tasks.guide import Guides
from darkroom.tasks.image_to_image import encoded
from darkroom.tasks.inpaint import composited, masked_part
from darkroom.tasks.target import towards_target
from darkroom.tasks.task import Situation, Start
from darkroom.types import Size, Step

__all__ = ["Desk", "Latent", "Picture", "Progress", "Run"]

T = TypeVar("T")
# Pixels from which decoding would hold others up. Small pictures are ready for joint calls sooner without waiting for a
# thread: of 128 px they take 9 to 14 % less processor time so, eight clients at once on two cores.
LONG = 512 * 512


@dataclass(frozen=True)
class Picture:
    """A finished picture: pixels uint8 (H, W, 3), the plan that made it, the latent (C, h, w) that it was decoded from.

    Where the request ends before zero noise, the latent is still noisy and the pixels show the last clean estimate.
    """

    pixels: np.ndarray
    plan: Plan
    latent: Tensor


@dataclass(frozen=True)
class Progress:
    """One sampler step of one picture: the number of its request and its latent (1, C, h, w) so far."""

    index: int
    step: Step
    pass_number: int = 0  # 1 in the second pass of a high-resolution fix


@dataclass(frozen=True)
class Latent:
    """What sampling ends with: the latent (1, C, h, w) and the last clean estimate."""

    x: Tensor
    x0: Tensor


class Desk(Protocol):
    """Where a run hands in what it asks of the network and shows how far it is."""

    def estimate(self, ask: Ask) -> Tensor:
        """The estimates (rows, C, h, w); others may run until they are there."""
        ...

    def report(self, step: Step, pass_number: int) -> None: ...

    def beside(self, work: Callable[[], T]) -> T:
        """What `work` gives, which asks nothing of the network; others may run until it is there."""
        ...


class Run:
    """The walk of one plan: conditions, start, sampler, second pass, decoder."""

    def __init__(
        self, plan: Plan, model: LatentDiffusion, shelf: LoraShelf, controls: ControlShelf, desk: Desk
    ) -> None:
        self.plan, self.model, self.desk = plan, model, desk
        self.drawn = masked_part(plan)
        self.loras = shelf.of(plan.prompt.loras, model)
        self.controls = controls.of(self.drawn.request.controls, model)

    def picture(self) -> Picture:
        latent = self.latent()
        # At the end of a stretch that is not the schedule's the clean estimate is what can be looked at.
        x = latent.x if self.plan.request.denoising_end == 1 else latent.x0
        pixels = self._beside(lambda: decoded(self.model, x))
        if self.plan.request.mask is not None and self.plan.request.image is not None:
            pixels = composited(self.plan, pixels)
        return Picture(pixels, self.plan, latent.x[0].clone())

    def latent(self) -> Latent:
        """Sampling alone, both passes."""
        latent, plan = self._sampled(self.drawn, None), self.drawn.second
        if plan is not None:
            x = latent.x
            latent = self._sampled(plan, self._beside(lambda: _enlarged(self.model, x, plan)))
        if self.model.spares_memory:
            page_out(self.model.unet)
        return latent

    def _sampled(self, plan: Plan, first_pass: Tensor | None) -> Latent:
        """One run of the sampler; `first_pass`: clean latent to draw over."""
        model = self.model
        factor = model.autoencoder.config.factor
        shape = (model.autoencoder.config.latent_channels, plan.height // factor, plan.width // factor)
        draws, size = Draws(plan, shape, model.device), Size(plan.height, plan.width)

        def prepared() -> tuple[dict[str, Any], Start, list[RunControl]]:
            inputs = model.conditioner.read(plan.request, size, draws.generator)
            start = begin(Situation(plan, model, draws.start(), first_pass))
            return inputs, start, ready(self.controls, model, size)

        inputs, start, controls = self._beside(prepared)
        guides = Guides(plan, inputs, model.conditioner.unconditional, self._encode, shape[1:])
        features = RunFeatures.of(plan.request.deepcache_interval, plan.request.tome_ratio)
        step = plan.skipped  # prompts change by the steps of the whole schedule
        uncond: Tensor | None = None

        def estimate(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal uncond
            guide = guides.at(step, float(sigma))
            acting = [c for c in controls if c.unit.acts(step - plan.skipped, len(plan.sigmas) - 1)]
            rows = self.desk.estimate(Ask(model, x, sigma, guide, self.loras, features, controls=acting)).split(1)
            uncond = None if guide.null is None else rows[guide.null]
            return guide.combine(x, sigma, rows)

        denoise = start.wrap(estimate)
        if plan.request.target is not None:
            denoise = towards_target(model, plan, denoise)
        if SAMPLERS[plan.sampler].needs_uncond:
            denoise = WithUncond(denoise, lambda: uncond)
        x = start.x.contiguous(memory_format=torch.channels_last) if model.device.type == "cpu" else start.x
        done: Step | None = None
        for done in plan.sample(denoise, x, plan.sigmas, draws.steps(model.process)):
            step = plan.skipped + done.index + 1
            if not torch.isfinite(done.x).all():
                raise InputError(f"the latent is no longer finite after step {done.index + 1} of {done.total}")
            self.desk.report(done, int(first_pass is not None))
        assert done is not None, "a schedule has at least one step"
        return Latent(done.x, done.x0)

    def _encode(self, rows: Sequence[Mapping[str, Any]]) -> Conditioning:
        model, plan = self.model, self.plan

        def encoded() -> Conditioning:
            with adapted(model, [(len(rows), self.loras.text)]):
                return model.condition(rows, emphasis=plan.emphasis, clip_skip=plan.request.clip_skip)

        cond = self._beside(encoded)
        if model.spares_memory:
            page_out(model.conditioner)
        return cond

    def _beside(self, work: Callable[[], T]) -> T:
        """Beside other runs, where it takes long and parts of the model do not leave memory for each other."""
        is_short = self.plan.width * self.plan.height < LONG
        return work() if is_short or self.model.spares_memory else self.desk.beside(work)


def decoded(model: LatentDiffusion, x: Tensor) -> np.ndarray:
    """uint8 (H, W, 3) of one latent (1, C, h, w), large ones in tiles."""
    return to_bytes(model.decode_latents(x.to(model.dtype), tile=tile_for(*x.shape[-2:])))[0]


def _enlarged(model: LatentDiffusion, x: Tensor, second: Plan) -> Tensor:
    """A clean latent (1, C, h, w) at the size of the second pass."""
    hires, factor = second.request.hires, model.autoencoder.config.factor
    assert hires is not None, "only for requests with a second pass"
    sides = (second.height // factor, second.width // factor)
    if hires.enlarge == "latent":
        return F.interpolate(x.float(), size=sides, mode="bilinear", antialias=False)
    picture = Image.fromarray(decoded(model, x))
    large = np.array(picture.resize((second.width, second.height), Image.Resampling.LANCZOS))
    drawn = replace(second, request=replace(second.request, image=large))
    return encoded(Situation(drawn, model, x.new_empty(1, 1, *sides)))
