"""Objective: progressive distillation (arXiv:2202.00512): one step of the student is two of its teacher's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.errors import require
from darkroom.training.distillation.student import DistillationRecipe, Student
from darkroom.training.distillation.teacher import Told
from darkroom.training.latent_rows import LatentBatch
from darkroom.training.objective import Loss, StepContext

__all__ = ["ProgressiveObjective", "ProgressiveRecipe"]


@dataclass(frozen=True)
class ProgressiveRecipe(DistillationRecipe):
    """One halving: the teacher's steps are twice as many as `times`. The export is the next halving's `model`.

    `teaching.guidance` makes the first student learn a guided teacher; later ones have 1.
    """

    kind: Literal["progressive"] = "progressive"

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.teaching.guidance
        require(low == high, "teaching.guidance", [low, high], "one scale twice: a student has one look")
        plain = self.teaching.weighting == "exponential" and self.teaching.steps == 1
        require(plain, "teaching", "other than guidance", "guidance alone")
        require(self.inputs == "noised", "inputs", self.inputs, '"noised"')


class ProgressiveObjective(Student):
    """One player."""

    from_pure_noise = False
    sampler = "DDIM"  # an estimate is where two steps lead, which noise would break off

    def __init__(self, recipe: ProgressiveRecipe) -> None:
        super().__init__(recipe)
        self.recipe: ProgressiveRecipe = recipe

    def losses(self, batch: LatentBatch, context: StepContext) -> Iterator[Loss]:
        z0 = self.rows.latents(batch, context.places[0].size)
        conditioning = self.rows.conditioning(batch, context, drop=False)
        t = self.steps.draw(context.draws)
        x = z0 + self.teacher.sigma(t, z0) * context.draws.normal(*z0.shape[1:]).to(z0)
        target = self.target(x, t, self.told(batch, conditioning))
        estimate = self.steps.estimate(self.network(conditioning), x, t)
        weight = self.teacher.sigma(t, x).pow(-2).clamp(min=1).flatten()  # truncated SNR, eq. 9
        loss = (estimate - target).square().flatten(1).mean(dim=1)
        loss = (batch.weights.to(loss) * weight * loss).mean()
        yield Loss("student", loss, {"distillation": loss.detach()})

    @torch.no_grad()
    def target(self, x: Tensor, t: Tensor, told: Told) -> Tensor:
        """The estimate with which one step of DDIM from x ends where two steps of the teacher do (algorithm 2)."""
        teacher, low = self.teacher, self.recipe.teaching.guidance[0]
        times = [-1, *self.recipe.times]  # −1: nothing is left
        end = torch.tensor([times[times.index(int(one)) - 1] for one in t])
        middle = (t + end) // 2
        scale = None if low == 1 else torch.full((len(t),), low)
        sigma, sigma_middle = teacher.sigma(t, x), teacher.sigma(middle, x)
        nothing = (end < 0).view(-1, 1, 1, 1).to(x.device)
        sigma_end = torch.where(nothing, 0.0, teacher.sigma(end.clamp(min=0), x))
        first = teacher.guided(x, t, told, scale)
        halfway = first + sigma_middle / sigma * (x - first)
        second = teacher.guided(halfway, middle, told, scale)
        final = second + sigma_end / sigma_middle * (halfway - second)
        share = sigma_end / sigma
        return (final - share * x) / (1 - share)
