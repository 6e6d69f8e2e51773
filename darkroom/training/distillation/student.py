"""What all ways of distilling share: a student of few steps, its teacher, their data, and what becomes of it."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from darkroom.checkpoints.lora import apply_loras, read_lora
from darkroom.checkpoints.native import save_adapted, save_system
from darkroom.conditioning.conditioning import Conditioning
from darkroom.data.buckets import BucketConfig
from darkroom.data.catalog import DatasetConfig
from darkroom.data.order import Place
from darkroom.data.reader import Reader
from darkroom.diffusion.draws import RowDraws, sample_seed
from darkroom.errors import InputError, require
from darkroom.nn.checkpointing import recomputed
from darkroom.requests.change import changed
from darkroom.requests.plan import side_step
from darkroom.systems.build import build
from darkroom.training.adapters import AdapterConfig, as_module, attach_trained
from darkroom.training.config import LoopConfig
from darkroom.training.distillation.few_steps import FewSteps, few_step_system
from darkroom.training.distillation.teacher import Teacher, TeacherConfig, Told
from darkroom.training.distillation.watch import VARIETY, Watch, WatchConfig, variety
from darkroom.training.drawn_prompts import draw_prompts
from darkroom.training.latent_rows import LatentBatch, LatentRows
from darkroom.training.model_ref import load_model_ref, require_known, system_of
from darkroom.training.objective import StepContext
from darkroom.training.recipe_data import buckets_of, check_cached_crops, check_sizes, open_readers
from darkroom.training.run_folder import natural_precision
from darkroom.training.sample_metrics import MetricsConfig, SampleSet
from darkroom.training.validation import Validation, ValidationConfig, even_shares, fixed_batches
from darkroom.types import Network, Request

__all__ = ["DistillationRecipe", "Play", "Student"]

TEACHER_STEPS = 4  # of DDIM, whose end validation compares the student with


@dataclass(frozen=True)
class DistillationRecipe:
    """What the recipes of all methods say."""

    loop: LoopConfig
    data: DatasetConfig
    model: str  # the student begins as this: whatever `-m` takes
    teacher: str | None = None  # another model on the same first stage; None: the student as it begins
    teacher_lora: Path | None = None  # merged into the teacher: what an adapter of a Turbo is to learn
    teaching: TeacherConfig = field(default_factory=TeacherConfig)
    times: tuple[int, ...] = (249, 499, 749, 999)  # at which the student works, the last one on pure noise
    time_shares: tuple[float, ...] = ()  # how often each is drawn; equally when not given
    inputs: Literal["noised", "simulated"] = "noised"  # of the student: true pictures noised, or its own earlier steps
    buckets: BucketConfig | None = None  # sizes for pictures of any size
    vae: str | None = None  # another first stage: a recipe's export, a file or folder of any layout
    ema: Literal["auto", "yes", "no"] = "auto"  # whether to begin with the averaged weights that a checkpoint holds
    adapter: AdapterConfig | None = None  # train a LoRA in place of the weights
    latent_cache: Path | None = None  # where latents are kept, to be encoded once; None: encoded each time
    decode_rows: int | None = None  # pictures decoded at a time, each time again in the backward pass; None: all, once
    watch: WatchConfig = field(default_factory=WatchConfig)
    validation: ValidationConfig | None = None  # on samples never trained on: how far the student is from its teacher
    metrics: MetricsConfig | None = None  # of pictures drawn at intervals, in as many steps as there are times
    prompts: tuple[str, ...] = ()  # drawn during training, always with the same noise
    samples: dict[str, Any] = field(default_factory=dict)  # how they are drawn: settings by name

    def __post_init__(self) -> None:
        require_known(self.model)
        changed(Request(), self.samples)  # refuses unknown names and wrong values before anything is read
        rising = all(a < b for a, b in zip(self.times, self.times[1:])) and min(self.times, default=-1) >= 0
        require(rising, "times", list(self.times), "rising timesteps from 0 up")
        shares = self.time_shares
        fits = not shares or (len(shares) == len(self.times) and min(shares) >= 0 and 0 < sum(shares) < math.inf)
        require(fits, "time_shares", list(shares), "one share from 0 up for each of times")
        require(self.decode_rows is None or self.decode_rows >= 1, "decode_rows", self.decode_rows, "at least 1")
        check_cached_crops(self.latent_cache, self.data, self.buckets)
        buckets_of(self.data, self.buckets)
        if (system := system_of(self.model)) is not None:
            check_sizes(self.data, self.buckets, side_step(system), side_step(system))


@dataclass(frozen=True)
class Play:
    """What a batch gives before anything is lost."""

    z0: Tensor  # (B, C, h, w), scaled latents of the true pictures
    z: Tensor  # the student's estimates, with gradients
    at_last: Tensor  # (B,), whether a row began as pure noise
    conditioning: Conditioning

    def variety(self) -> dict[str, float | Tensor]:
        """For the log: of the rows that began as pure noise, as elsewhere the true picture gives variety."""
        if int(self.at_last.sum()) < 2:
            return {}
        return {VARIETY: variety(self.z.detach()[self.at_last], self.z0[self.at_last])}


class Student:
    """The student's system with its teacher and their data. Objectives of all methods are subclasses.

    The embedders and the first stage learn nothing and are shared with the teacher where that is the same model.
    """

    reads_pixels = False  # whether losses read the pictures themselves
    from_pure_noise = True  # whether the student's last level holds noise alone
    sampler = "Euler a"  # of the export: each step's estimate is a picture, which is noised again
    ema = ("student",)

    def __init__(self, recipe: DistillationRecipe) -> None:
        self.recipe = recipe
        device, loop = recipe.loop.device, recipe.loop
        precision = natural_precision(device) if loop.precision == "auto" else loop.precision
        self.half = precision == "bf16"
        self.model = load_model_ref(recipe.model, recipe.vae, recipe.ema, device)
        last = self.model.system.schedule.steps - 1
        require(recipe.times[-1] == last, "the last of times", recipe.times[-1], f"{last}, where only noise is left")
        step = side_step(self.model.system)
        check_sizes(recipe.data, buckets_of(recipe.data, recipe.buckets), step, step)
        self.reader, held = open_readers(recipe.data, recipe.buckets, loop, recipe.validation)
        self.teacher = self._load_teacher()
        self.model.become(
            few_step_system(
                self.model.system, len(recipe.times), from_pure_noise=self.from_pure_noise, sampler=self.sampler
            )
        )
        self.steps = FewSteps(self.model.process, recipe.times, recipe.time_shares)
        self._share_out()
        self.model.autoencoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.rows = LatentRows(self.model, self.reader, recipe.latent_cache, half=self.half)
        asked = changed(self._asked(), {"steps": len(recipe.times)})
        self.metrics = recipe.metrics and SampleSet(self.model, held or self.reader, recipe.metrics, asked)
        self.validation = self._validation(held)

    def _load_teacher(self) -> Teacher:
        """In bf16 where the run computes in it: it is never changed."""
        recipe, model = self.recipe, self.model
        if recipe.teacher is None:
            found = build(model.system, "meta")
            found.unet = copy.deepcopy(model.unet)
            found.autoencoder, found.conditioner = model.autoencoder, model.conditioner
        else:
            found = load_model_ref(recipe.teacher, recipe.vae, recipe.ema, recipe.loop.device)
            for part in ("embedders", "latent_scale"):
                same = getattr(found.system, part) == getattr(model.system, part)
                if not same:
                    raise InputError(f"the teacher {recipe.teacher} has other {part} than {recipe.model}")
            if (theirs := found.system.autoencoder.latent_channels) != (
                ours := model.system.autoencoder.latent_channels
            ):
                raise InputError(
                    f"the teacher {recipe.teacher} has latents of {theirs} channels, the student of {ours}"
                )
            found.autoencoder = model.autoencoder
        found.requires_grad_(False)
        if recipe.teacher_lora is not None:
            apply_loras(found, [(read_lora(recipe.teacher_lora, found.system), 1.0, 1.0)], merged=True)
        if self.half:
            found.unet.to(torch.bfloat16)
        return Teacher(found, recipe.teaching.guided_from, recipe.teaching.guided_to)

    def _share_out(self) -> None:
        """What learns: the student's UNet or its adapters."""
        recipe, model = self.recipe, self.model
        model.requires_grad_(False)
        self.adapters = None
        if recipe.adapter is not None:
            require(not recipe.adapter.text, "adapter.text", True, "false: text encoders learn nothing here")
            self.adapters = attach_trained(model, recipe.adapter)
            learns: nn.Module = as_module(self.adapters)
        else:
            learns = model.unet.requires_grad_(True)
        self.watch = Watch(recipe.watch)
        self.trained = nn.ModuleDict({"student": learns, "watch": self.watch})
        rest = {"autoencoder": model.autoencoder, "conditioner": model.conditioner, "teacher": self.teacher.model}
        self.frozen = nn.ModuleDict(rest if self.adapters is None else {**rest, "unet": model.unet})

    def _validation(self, reader: Reader | None) -> Validation | None:
        """The squared distance of latents to those of the teacher, which takes TEACHER_STEPS steps, from each of the
        student's times."""
        asked = self.recipe.validation
        if asked is None or reader is None:
            return None
        rows = LatentRows(self.model, reader, None, half=self.half)

        def measure(places: Sequence[Place]) -> Mapping[str, Tensor]:
            batch = rows.batch(places)
            reader.drain()
            draws = RowDraws([sample_seed(self.recipe.loop.seed, p.number) for p in places])
            context = StepContext(0, places, draws)
            z0, conditioning = rows.latents(batch, places[0].size), rows.conditioning(batch, context, drop=False)
            t = self.steps.times[(even_shares(places) * len(self.steps.times)).long()]
            noise = draws.normal(*z0.shape[1:]).to(z0)
            z = self.steps.estimate(self.network(conditioning), self.steps.noised(z0, noise, t), t)
            x = z0 + self.teacher.sigma(t, z0) * noise
            low, high = self.recipe.teaching.guidance
            scale = None if (low, high) == (1.0, 1.0) else torch.full((len(places),), (low + high) / 2)
            theirs = self.teacher.stepped(x, t, self.told(batch, conditioning), scale, TEACHER_STEPS)
            return {"loss": (z - theirs).square().flatten(1).mean(dim=1)}

        return Validation(asked.every, fixed_batches(reader, asked.count, self.recipe.loop.batch_size), measure)

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {"student": [p for p in self.trained["student"].parameters() if p.requires_grad]}

    def batch(self, places: Sequence[Place]) -> LatentBatch:
        return self.rows.batch(places, pixels=self.reads_pixels)

    def network(self, conditioning: Conditioning) -> Network:
        """The student's raw prediction."""
        return lambda x, t: self.model.network(x, t, conditioning)

    def play(self, batch: LatentBatch, context: StepContext) -> Play:
        """The student's estimates of the batch's pictures, at times that are drawn."""
        z0 = self.rows.latents(batch, context.places[0].size)
        conditioning = self.rows.conditioning(batch, context, drop=False)
        t = self.steps.draw(context.draws)
        noise = context.draws.normal(*z0.shape[1:]).to(z0)
        network = self.network(conditioning)
        if self.recipe.inputs == "simulated":
            x = self.steps.simulated(network, noise, t, context.draws)
        else:
            x = self.steps.noised(z0, noise, t)
        z = self.steps.estimate(network, x, t)
        return Play(z0, z, self.steps.is_last(t, z0).flatten(), conditioning)

    def told(self, batch: LatentBatch, conditioning: Conditioning) -> Told:
        """What the teacher is told of the rows."""
        teaching = self.recipe.teaching
        own = self.teacher.model.conditioner is self.model.conditioner
        theirs = conditioning if own else self._conditioned(batch.prepared)
        if not teaching.needs_null:
            return Told(theirs)
        null = self._conditioned(self._without_prompts(batch, None))
        if teaching.weighting != "nfsd":
            return Told(theirs, null)
        return Told(theirs, null, self._conditioned(self._without_prompts(batch, teaching.nfsd_negative)))

    def _conditioned(self, prepared: Mapping[str, Tensor]) -> Conditioning:
        return self.teacher.model.conditioner({k: t.to(self.model.device) for k, t in prepared.items()})

    def _without_prompts(self, batch: LatentBatch, negative: str | None) -> dict[str, Tensor]:
        """The rows' prepared inputs; those that guidance goes without are absent, or the negative prompt."""
        count = len(batch.pictures)
        embedders: Any = self.teacher.model.conditioner.embedders
        found = {}
        for key, e in embedders.items():
            value = batch.prepared[key]
            if e.guided:
                nothing = e.prepare([negative if key == "caption" else None]).to(value)
                value = nothing.expand(count, *nothing.shape[1:])
            found[key] = value
        return found

    def text(self, batch: LatentBatch) -> Tensor | None:
        """One embedding (B, D) of each row's prompt: the pooled one where the system has it, else the mean over tokens.

        None for systems that read no prompts.
        """
        embedders = self.model.conditioner.embedders
        if "caption" not in embedders:
            return None
        found = embedders["caption"](batch.prepared["caption"].to(self.model.device))
        if isinstance(found, Conditioning):
            assert found.tokens is not None, "prompts become tokens"
            return found.tokens.mean(dim=1) if found.vector is None else found.vector
        return found.mean(dim=1)

    @cached_property
    @torch.no_grad()
    def text_width(self) -> int | None:
        """D of `text`."""
        embedders: Any = self.model.conditioner.embedders
        if "caption" not in embedders:
            return None
        empty = {"caption": embedders["caption"].prepare(["a"])}
        found = self.text(LatentBatch([(0, False)], [None], empty, torch.ones(1), None))
        assert found is not None, "there is a caption"
        return found.shape[1]

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) of scaled latents; gradients flow through the frozen decoder.

        A codebook is passed by, as it has no gradient.
        """
        rows = self.recipe.decode_rows
        if rows is None or not latents.requires_grad:
            return self._decode(latents).float()
        return torch.cat([recomputed(self._decode, part).float() for part in latents.split(rows)])

    def _decode(self, latents: Tensor) -> Tensor:
        return self.model.autoencoder.decode_unquantized(latents / self.model.system.latent_scale)

    def samples(self) -> np.ndarray | None:
        """The recipe's prompts at one step and, below, at as many as the student has times."""
        grids = []
        for steps in dict.fromkeys((1, len(self.recipe.times))):
            request = changed(self._asked(), {"steps": steps})
            if (found := draw_prompts(self.model, self.reader, self.recipe.prompts, request)) is None:
                return None
            grids.append(found)
        return np.concatenate(grids)

    def _asked(self) -> Request:
        """How pictures are drawn."""
        return changed(Request(seed=self.recipe.loop.seed), self.recipe.samples)

    def trouble(self, step: int, numbers: Mapping[str, float]) -> str | None:
        """Why the run has collapsed, None while it has not; `numbers` are those of the log."""
        return self.watch.step(step, numbers)

    @property
    def good_step(self) -> int:
        """The last step at which all that is watched was sound."""
        return int(self.watch.good_step)  # type: ignore[arg-type]

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        if self.adapters is None:
            save_system(self.model, folder, metadata)
            return
        base = self.recipe.model
        if os.path.exists(base):
            base = str(Path(base).resolve())
        save_adapted(self.adapters, self.model.system, base, folder, metadata)
