"""Objective: latent consistency distillation (LCM, arXiv:2310.04378): estimates agree along the teacher's path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from darkroom.errors import require
from darkroom.training.distillation.student import DistillationRecipe, Student
from darkroom.training.latent_rows import LatentBatch
from darkroom.training.objective import Loss, StepContext
from darkroom.types import Network

__all__ = ["ConsistencyObjective", "ConsistencyRecipe", "boundary"]

SIGMA_DATA = 0.5
TIME_SCALE = 10.0  # of timesteps in the boundary's weights


@dataclass(frozen=True)
class ConsistencyRecipe(DistillationRecipe):
    """`teaching.guidance` is the range from which the teacher's guidance scale is drawn; 3 to 15 in the paper."""

    grid: int = 50  # times, evenly spaced, from one of which to the next the teacher steps
    huber_c: float = 1e-3  # where the loss turns from a parabola into lines
    kind: Literal["consistency"] = "consistency"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.grid <= 1000, "grid", self.grid, "2 to 1000")
        require(self.huber_c > 0, "huber_c", self.huber_c, "a number above 0")
        plain = self.teaching.weighting == "exponential" and self.teaching.steps == 1
        require(plain, "teaching", "other than guidance", "guidance alone")
        require(self.inputs == "noised", "inputs", self.inputs, '"noised"')


class ConsistencyObjective(Student):
    """One player. The estimate at the step's end, which the student's is to equal, is the student's own, held fixed."""

    from_pure_noise = False

    def __init__(self, recipe: ConsistencyRecipe) -> None:
        super().__init__(recipe)
        self.recipe: ConsistencyRecipe = recipe

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
            step = self.teacher.guided(x, t, self.told(batch, conditioning), self._scale(draws.uniform()))
            x_before = step + self._sigma(before, x) / self._sigma(t, x) * (x - step)
            target = self.consistent(network, x_before, before)
        error = self.consistent(network, x, t) - target
        loss = ((error.square() + recipe.huber_c**2).sqrt() - recipe.huber_c).flatten(1).mean(dim=1)
        loss = (batch.weights.to(loss) * loss).mean()
        yield Loss("student", loss, {"distillation": loss.detach()})

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
