"""From a request to everything that a run needs: checked, with the defaults of the system filled in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from darkroom.conditioning.emphasis import EMPHASES
from darkroom.diffusion.process import DiffusionProcess
from darkroom.diffusion.samplers import SAMPLERS, options_of, with_options
from darkroom.diffusion.seeds import SEED_MODES
from darkroom.diffusion.sigma_schedules import given
from darkroom.diffusion.stepping import SPACINGS, Stepping, stepping
from darkroom.diffusion.truncate import between, for_strength
from darkroom.errors import InputError
from darkroom.names import split_name
from darkroom.pixels import resized, sides, softened
from darkroom.prompts.syntaxes import SYNTAXES, read_prompt
from darkroom.prompts.tree import Prompt
from darkroom.requests.checks import (
    check_controls,
    check_guidance,
    check_hires,
    check_inputs,
    check_pictures,
    check_regions,
    check_seeds,
    check_sides,
    check_speed,
    remarks_on,
)
from darkroom.systems.system import System
from darkroom.types import HighResolution, Request, Sampler

__all__ = ["Plan", "plan", "side_step"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A request without gaps, and what checking it made: parsed prompts, the sampler with its options, the levels."""

    request: Request
    prompt: Prompt
    negative: Prompt
    region_prompts: tuple[Prompt, ...]
    emphasis: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    guidance_interval: tuple[float, float] | None  # guided between these shares of the steps only
    sampler: str
    schedule: str
    stepping: Stepping
    sampler_options: Mapping[str, Any]
    sample: Sampler  # with these options
    whole: Tensor  # the levels of the whole schedule (n + 1,), falling
    sigmas: Tensor  # those that are run
    step: int  # sides are multiples of this
    strength: float  # 1 without a picture to start from
    starts_from_image: bool
    remarks: tuple[str, ...] = ()  # sentences for the user, before the picture is drawn
    former_steps: int = 0  # of the first pass, in the second of a high-resolution fix
    second: Plan | None = None  # the second pass of a high-resolution fix

    @property
    def skipped(self) -> int:
        """The steps of the whole schedule that went before this run: prompts change by those.

        Over a picture by those that are run, as A1111 counts.
        """
        return 0 if self.starts_from_image else int((self.whole == self.sigmas[0]).nonzero()[0])

    def read(self, reading: Callable[[Prompt], Prompt]) -> Plan:
        """The plan with all its prompts as `reading` understands them."""
        return replace(
            self,
            prompt=reading(self.prompt),
            negative=reading(self.negative),
            region_prompts=tuple(reading(p) for p in self.region_prompts),
            second=None if self.second is None else self.second.read(reading),
        )

    def filled(self) -> Request:
        """The request with the plan's answers where it said nothing."""
        return replace(
            self.request,
            width=self.width,
            height=self.height,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            guidance=replace(self.request.guidance, interval=self.guidance_interval),
            sampler=self.sampler,
            schedule=self.schedule,
        )

    def soft_mask(self) -> np.ndarray:
        """The mask at the size that is drawn, with its edge blurred: float32 (height, width) in 0 … 1."""
        mask = resized(np.asarray(self.request.mask) > 0, self.width, self.height)
        return softened(mask, self.request.mask_blur)


def side_step(system: System) -> int:
    """Sides of pictures are multiples of this: the UNet halves the latent at every level but the first."""
    return system.autoencoder.factor * 2 ** (len(system.unet.channel_mult) - 1)


def plan(request: Request, system: System) -> Plan:
    """Check `request` against `system`; every fault is an `InputError` naming value and what would be accepted."""
    d = system.defaults
    check_pictures(request)
    check_inputs(request, system)
    width, height = _size(request, system)
    steps = d.steps if request.steps is None else request.steps
    if request.sigmas is not None:
        steps = len(given(request.sigmas)) - 1
    if not 1 <= steps <= system.schedule.steps:
        raise InputError(f"the number of steps is {steps}, expected is 1 to {system.schedule.steps}")
    guidance_scale = d.guidance_scale if request.guidance_scale is None else request.guidance_scale
    interval = d.guidance_interval if request.guidance.interval is None else request.guidance.interval
    check_guidance(guidance_scale, request.target_strength, replace(request.guidance, interval=interval))
    check_regions(request.regions)
    check_controls(request.controls)
    SEED_MODES.name(request.seed_mode)
    check_seeds(request)
    sampler, stepped, options = _sampling(request, system)
    sample = with_options(sampler, options)
    starts, strength = _strength(request, system)
    syntax = SYNTAXES[request.prompt_syntax]
    emphasis = EMPHASES.name(syntax.emphasis if request.emphasis is None else request.emphasis)
    check_speed(request)
    if request.tome_ratio and system.unet.merging_level is None:
        raise InputError(f"{system.name} has no transformers whose tokens could be merged")
    process = _process(system)
    whole = _whole(request, stepped, process, steps)
    sigmas = whole
    if (request.denoising_start, request.denoising_end) != (0.0, 1.0):
        sigmas = between(process, whole, request.denoising_start, request.denoising_end)
    if strength < 1:
        sigmas = for_strength(sigmas, strength, "a1111" if _as_a1111(request, sampler) else "diffusers")
    lost: list[str] = []
    first = Plan(
        request=request,
        prompt=read_prompt(request.prompt, request.prompt_syntax, lost),
        negative=_one_part(request, request.negative_prompt, "the negative prompt", lost),
        region_prompts=tuple(_one_part(request, r.prompt, f"the region {r.box}", lost) for r in request.regions),
        emphasis=emphasis,
        width=width,
        height=height,
        steps=steps,
        guidance_scale=guidance_scale,
        guidance_interval=interval,
        sampler=sampler,
        schedule=stepped.schedule,
        stepping=stepped,
        sampler_options=options,
        sample=sample,
        whole=whole,
        sigmas=sigmas,
        step=side_step(system),
        strength=strength,
        starts_from_image=starts,
        remarks=remarks_on(request, width, height, len(sigmas) - 1, lost),
    )
    return first if request.hires is None else replace(first, second=_second_pass(first, request.hires, process))


def _sampling(request: Request, system: System) -> tuple[str, Stepping, dict[str, Any]]:
    """The sampler's own name, the levels that it steps on, and its options with the system's where nothing is said."""
    d = system.defaults
    sampler, carried = split_name(d.sampler if request.sampler is None else request.sampler)
    sampler = SAMPLERS.name(sampler)
    schedule = request.schedule or carried or (d.schedule if request.sampler is None else "automatic")
    options = dict(request.sampler_options)
    if d.eta and "eta" not in options and "eta" in options_of(sampler) and request.sampler is None:
        options["eta"] = d.eta
    stepped = stepping(sampler, schedule, request.seed_mode, _spacing(system))
    # Systems whose own sampler is DDIM end it, and PLMS, at the first level (CompVis, A1111, Diffusers).
    first_level = ("leading",) if SEED_MODES.name(request.seed_mode) == "comfy" else ("leading", "ddim_uniform")
    ends_early = d.sampler == "DDIM" and stepped.schedule in first_level and request.sigmas is None
    if ends_early and "end" not in options and "end" in options_of(sampler):
        alpha_bar = float(system.schedule.alphas_cumprod()[0])
        options["end"] = ((1 - alpha_bar) / alpha_bar) ** 0.5
    return sampler, stepped, options


def _strength(request: Request, system: System) -> tuple[bool, float]:
    """Whether drawing starts from the request's picture, and the share of the schedule that is run then."""
    # Upscalers and image prompts read the picture through an embedder; drawing does not start from it.
    starts = request.image is not None and not any(e.takes_image for e in system.embedders)
    starts = starts or (request.image is not None and request.strength is not None)
    own = system.defaults.strength
    usual = own if own is not None else 1.0 if request.mask is not None else 0.75
    strength = usual if request.strength is None else request.strength
    if not 0 <= strength <= 1:
        raise InputError(f"the strength is {strength}, expected is 0 to 1")
    return starts, strength if starts else 1.0


def _whole(request: Request, stepped: Stepping, process: DiffusionProcess, steps: int) -> Tensor:
    """The levels of the whole schedule."""
    if request.sigmas is None:
        return stepped.levels(process, steps, request.schedule_options)
    if request.schedule_options:
        raise InputError(f"sigmas are given; {', '.join(request.schedule_options)} of a schedule says nothing then")
    return given(request.sigmas)


def _second_pass(first: Plan, hires: HighResolution, process: DiffusionProcess) -> Plan:
    """The second pass of a high-resolution fix."""
    check_hires(hires)
    if first.request.mask is not None or first.request.denoising_end != 1:
        raise InputError("a second pass goes together neither with a mask nor with a schedule that ends early")
    steps = first.steps if hires.steps is None else hires.steps
    whole = first.stepping.levels(process, steps, first.request.schedule_options)
    sigmas = for_strength(whole, hires.strength) if hires.strength < 1 else whole
    if _as_a1111(first.request, first.sampler):  # there all steps are run, the last ones of a longer schedule
        longer = min(int(steps / min(hires.strength, 0.999)), process.schedule.steps)
        sigmas = whole = first.stepping.levels(process, longer, first.request.schedule_options)[-steps - 1 :]
    return replace(
        first,
        request=replace(first.request, latent=None, denoising_start=0.0, denoising_end=1.0, sigmas=None),
        width=round(first.width * hires.scale / first.step) * first.step,
        height=round(first.height * hires.scale / first.step) * first.step,
        steps=steps,
        whole=whole,
        sigmas=sigmas,
        strength=hires.strength,
        starts_from_image=True,
        former_steps=first.steps,
    )


def _as_a1111(request: Request, sampler: str) -> bool:
    """Whether drawing over a picture counts its steps as A1111 does with the samplers that it has from k-diffusion."""
    own = SEED_MODES.name(request.seed_mode)
    return own.startswith("a1111") and sampler not in ("DDIM", "DDIM CFG++", "PLMS", "UniPC")


@functools.lru_cache(maxsize=8)
def _process(system: System) -> DiffusionProcess:
    return DiffusionProcess(system.schedule, system.prediction)


def _spacing(system: System) -> str | None:
    """The timestep spacing that the system's configuration names, where that is not the habit of its sampler."""
    d = system.defaults
    return d.schedule if d.schedule in SPACINGS and d.schedule != SAMPLERS[d.sampler].schedule else None


def _size(request: Request, system: System) -> tuple[int, int]:
    """Width and height: as asked for, else those of the picture to start from, else the system's."""
    step = side_step(system)
    width, height = system.defaults.width, system.defaults.height
    decided = (e.picture_size(request, system.autoencoder.factor) for e in system.embedders)
    if (size := next((s for s in decided if s is not None), None)) is not None:
        width, height = size.width, size.height
    elif request.image is not None and not request.draws_part:
        height, width = (max(step, s - s % step) for s in astuple(sides(request.image)))
    width = width if request.width is None else request.width
    height = height if request.height is None else request.height
    check_sides(width, height, step, system.name)
    return width, height


def _one_part(request: Request, text: str, where: str, lost: list[str]) -> Prompt:
    """A prompt in which AND is a word; LoRAs are the whole picture's and have no place in it."""
    prompt = read_prompt(text, request.prompt_syntax, lost, composed=False)
    if prompt.loras:
        raise InputError(f"{where} names the LoRA {prompt.loras[0].name!r}; LoRAs are named in the prompt itself")
    return prompt
