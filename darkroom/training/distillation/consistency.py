"""Objective: latent consistency distillation (LCM, arXiv:2310.04378): estimates agree along the teacher's path."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from darkroom.conditioning.conditioning import Conditioning
from darkroom.errors import require
from darkroom.nn.lora import attach
from darkroom.systems.build import build
from darkroom.training.adapters import as_module
from darkroom.training.distillation.student import DistillationRecipe, Student
from darkroom.training.latent_rows import LatentBatch
from darkroom.training.objective import Loss, StepContext
from darkroom.training.sharding import local
from darkroom.types import Network

__all__ = ["ConsistencyObjective", "ConsistencyRecipe", "boundary"]

SIGMA_DATA = 0.5
TIME_SCALE = 10.0  # of timesteps in the boundary's weights


@dataclass(frozen=True)
class ConsistencyRecipe(DistillationRecipe):
    """`teaching.guidance` is the range from which the teacher's guidance scale is drawn; 3 to 15 in the paper."""

    grid: int = 50  # times, evenly spaced, from one of which to the next the teacher steps
    huber_c: float = 1e-3  # where the loss turns from a parabola into lines
    target_decay: float = 0.95  # of the student's running mean, which gives the targets; 0: the student itself does
    kind: Literal["consistency"] = "consistency"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.grid <= 1000, "grid", self.grid, "2 to 1000")
        require(self.huber_c > 0, "huber_c", self.huber_c, "a number above 0")
        require(0 <= self.target_decay < 1, "target_decay", self.target_decay, "a number from 0 to below 1")
        plain = self.teaching.weighting == "exponential" and self.teaching.steps == 1
        require(plain, "teaching", "other than guidance", "guidance alone")
        require(self.inputs == "noised", "inputs", self.inputs, '"noised"')


class ConsistencyObjective(Student):
    """One player. The estimate at the step's end, which the student's is to equal, is that of its running mean: targets
    that move with each step pull the student along."""

    from_pure_noise = False

    def __init__(self, recipe: ConsistencyRecipe) -> None:
        self.decay = recipe.target_decay
        self.followed = -1  # the last step at whose begin the mean was brought up to date
        super().__init__(recipe)
        self.recipe: ConsistencyRecipe = recipe

    def _share_out(self) -> None:
        """What learns, and its running mean on a twin of the student, which shares what does not learn."""
        model, adapted = self.model, self.recipe.adapter is not None
        bare = copy.deepcopy(model.unet, {id(p): p for p in model.unet.parameters()} if adapted else {})
        super()._share_out()
        self.target = model
        if not self.decay:
            return
        self.target = build(model.system, "meta")
        mean: nn.Module = bare
        self.target.unet = bare
        if self.adapters is not None:
            twins = copy.deepcopy(self.adapters)
            attach(self.target, twins)
            self.frozen["target"], mean = bare, as_module(twins)
        self.trained["target"] = mean.requires_grad_(False)

    def _follow(self, step: int) -> None:
        """Bring the running mean to the begin of `step`."""
        if step == self.followed or not self.decay:
            return
        self.followed = step
        pairs = zip(self.trained["target"].parameters(), self.trained["student"].parameters())
        means, live = zip(*((local(mean), local(p)) for mean, p in pairs))
        torch._foreach_lerp_(means, live, 1 - self.decay)

    def losses(self, batch: LatentBatch, context: StepContext) -> Iterator[Loss]:
        draws, recipe = context.draws, self.recipe
        z0 = self.rows.latents(batch, context.places[0].size)
        conditioning = self.rows.conditioning(batch, context, drop=False)
        network = self.network(conditioning)
        times = len(self.teacher.process.sigmas)
        place = (draws.stratified() * recipe.grid).long().clamp(max=recipe.grid - 1)
        t, before = (place + 1) * times // recipe.grid - 1, place * times // recipe.grid - 1  # −1: nothing is left
        x = z0 + self.teacher.sigma(t, z0) * draws.normal(*z0.shape[1:]).to(z0)
        with torch.no_grad():
            self._follow(context.step)
            step = self.teacher.guided(x, t, self.told(batch, conditioning), self._scale(draws.uniform()))
            x_before = step + self._sigma(before, x) / self._sigma(t, x) * (x - step)
            target = self.consistent(self._target_network(conditioning), x_before, before)
        error = self.consistent(network, x, t) - target
        loss = ((error.square() + recipe.huber_c**2).sqrt() - recipe.huber_c).flatten(1).mean(dim=1)
        loss = (batch.weights.to(loss) * loss).mean()
        yield Loss("student", loss, {"distillation": loss.detach()})

    def _target_network(self, conditioning: Conditioning) -> Network:
        return lambda x, t: self.target.network(x, t, conditioning)

    def _scale(self, share: Tensor) -> Tensor | None:
        low, high = self.recipe.teaching.guidance
        return None if (low, high) == (1.0, 1.0) else low + (high - low) * share

    def _sigma(self, t: Tensor, like: Tensor) -> Tensor:
        """(B, 1, 1, 1); 0 behind the first timestep."""
        return torch.where((t < 0).view(-1, 1, 1, 1).to(like.device), 0.0, self.teacher.sigma(t.clamp(min=0), like))

    def consistent(self, network: Network, x: Tensor, t: Tensor) -> Tensor:
        """The student's estimate, which at the time 0 is what it is given."""
        c_skip, c_out = boundary(t, x)
        z = x * (self._sigma(t, x).square() + 1).rsqrt()  # variance-preserving
        estimate = self.steps.estimate(network, x, t.clamp(min=0))
        return torch.where((t < 0).view(-1, 1, 1, 1).to(x.device), x, c_skip * z + c_out * estimate)


def boundary(t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """(c_skip, c_out) at timesteps t (B,), each (B, 1, 1, 1): 1 and 0 at the first one, all but 0 and 1 from 1 on."""
    scaled = TIME_SCALE * t.clamp(min=0).view(-1, 1, 1, 1).to(like)
    variance = scaled.square() + SIGMA_DATA**2
    return SIGMA_DATA**2 / variance, scaled * variance.rsqrt()
