"""Objective: distribution matching (DMD2, arXiv:2405.14867): a second denoiser learns what the student draws."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.draws import RowDraws
from darkroom.errors import require
from darkroom.systems.build import build
from darkroom.training.distillation.student import DistillationRecipe, Student
from darkroom.training.distillation.taps import channels, tapped
from darkroom.training.distillation.teacher import Teacher, Told
from darkroom.training.latent_rows import LatentBatch
from darkroom.training.objective import Loss, StepContext

__all__ = ["DmdObjective", "DmdRecipe"]


@dataclass(frozen=True)
class DmdRecipe(DistillationRecipe):
    """`inputs = "simulated"` is the paper's for several steps. `teaching.guidance` is the real score's."""

    student_every: int = 5  # steps of the fake score for each of the student's
    adversarial_weight: float = 1e-3  # of the student's loss on the fake score's features; 0: without
    critic_weight: float = 1e-2  # of the fake score's own
    lowest_share: float = 0.02  # of the timesteps at which distributions are matched …
    highest_share: float = 0.98
    kind: Literal["dmd2"] = "dmd2"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.student_every >= 1, "student_every", self.student_every, "at least 1")
        for name in ("adversarial_weight", "critic_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number from 0 up")
        shares = [self.lowest_share, self.highest_share]
        require(0 <= shares[0] < shares[1] <= 1, "lowest_share and highest_share", shares, "two rising shares")
        low, high = self.teaching.guidance
        require(low == high, "teaching.guidance", [low, high], "one scale twice")
        plain = self.teaching.weighting == "exponential" and self.teaching.steps == 1
        require(plain, "teaching", "other than guidance", "guidance alone")


class DmdObjective(Student):
    """Two players: `student`, every few steps, and `fake_score`, which denoises the student's pictures at every one."""

    def __init__(self, recipe: DmdRecipe) -> None:
        super().__init__(recipe)
        self.recipe: DmdRecipe = recipe
        shell = build(self.teacher.model.system, "meta")
        score = shell.unet = copy.deepcopy(self.teacher.model.unet).float().requires_grad_(True)
        self.score = Teacher(shell)
        self.fake = self.trained["fake_score"] = nn.ModuleDict({"unet": score})
        self.middle = [score.mid_block2]
        width = channels(score.mid_block2)
        # Pooled to one logit a picture.
        self.fake["head"] = nn.Sequential(nn.Conv2d(width, width, 4, 2, 1), nn.SiLU(), nn.Conv2d(width, 1, 1))

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {**super().optimizers(), "fake_score": list(self.fake.parameters())}

    def losses(self, batch: LatentBatch, context: StepContext) -> Iterator[Loss]:
        recipe, draws = self.recipe, context.draws
        turn = context.step % recipe.student_every == 0
        with torch.set_grad_enabled(turn):
            play = self.play(batch, context)
        told = self.told(batch, play.conditioning)
        if turn:
            self.fake.requires_grad_(False)
            matching = self._matching(play.z, told, draws)
            log = {**play.variety(), "distillation": matching.detach()}
            loss = matching
            if recipe.adversarial_weight:
                logits = self._logits(play.z, told.conditioning, draws)
                deceiving = F.softplus(-logits).mean()
                log["deceiving"] = deceiving.detach()
                loss = loss + recipe.adversarial_weight * deceiving
            self.fake.requires_grad_(True)
            yield Loss("student", loss, log)
        yield self._scored(play.z0, play.z.detach(), told.conditioning, draws)

    def _matching(self, z: Tensor, told: Told, draws: RowDraws) -> Tensor:
        """Half the squared distance to z less the normalized difference of the two scores' estimates (eq. 3)."""
        with torch.no_grad():
            t = self._levels(draws)
            x = z + self.teacher.sigma(t, z) * draws.normal(*z.shape[1:]).to(z)
            low = self.recipe.teaching.guidance[0]
            real = self.teacher.guided(x, t, told, None if low == 1 else torch.full((len(t),), low))
            fake = self.score.estimate(x, t, told.conditioning)
            scale = (z - real).abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
            target = z - (fake - real) / scale
        return 0.5 * (z - target).square().mean()

    def _scored(self, z0: Tensor, z: Tensor, conditioning: Conditioning, draws: RowDraws) -> Loss:
        """The fake score's loss: denoising of the student's z, telling it from the true z0."""
        t = (draws.uniform() * len(self.teacher.process.sigmas)).long()
        noise = draws.normal(*z.shape[1:]).to(z)
        output = self.score.output(z + self.teacher.sigma(t, z) * noise, t, conditioning)
        target = self.teacher.process.target(z, noise, t)
        loss = denoising = (output.float() - target.float()).square().mean()
        log: dict[str, float | Tensor] = {"denoising": denoising.detach()}
        if self.recipe.adversarial_weight:
            on_real, on_fake = (self._logits(x, conditioning, draws) for x in (z0, z))
            log |= {"logits/real": on_real.detach().mean(), "logits/fake": on_fake.detach().mean()}
            loss = loss + self.recipe.critic_weight * (F.softplus(-on_real).mean() + F.softplus(on_fake).mean())
        return Loss("fake_score", loss, log)

    def _logits(self, z: Tensor, conditioning: Conditioning, draws: RowDraws) -> Tensor:
        """(B,) of latents, noised, through the middle of the fake score."""
        t = self._levels(draws)
        x = z + self.teacher.sigma(t, z) * draws.normal(*z.shape[1:]).to(z)
        (seen,) = tapped(self.middle, lambda: self.score.output(x, t, conditioning))
        return self.fake["head"](seen).float().mean(dim=(1, 2, 3))

    def _levels(self, draws: RowDraws) -> Tensor:
        count = len(self.teacher.process.sigmas)
        low, high = self.recipe.lowest_share, self.recipe.highest_share
        return ((low + (high - low) * draws.uniform()) * count).long().clamp(max=count - 1)
