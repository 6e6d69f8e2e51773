"""Objective: adversarial post-training (APT, arXiv:2501.08316) beside what guidance adds to the teacher's estimates."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.checkpoints.native import load_network, write_network
from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.draws import RowDraws
from darkroom.errors import require
from darkroom.models.latent_critic import LatentCritic
from darkroom.systems.build import build
from darkroom.training.distillation.student import DistillationRecipe, Student
from darkroom.training.distillation.teacher import Teacher, Told
from darkroom.training.latent_rows import LatentBatch
from darkroom.training.objective import Loss, StepContext

__all__ = ["AptObjective", "AptRecipe"]

CRITIC = "critic.safetensors"


@dataclass(frozen=True)
class AptRecipe(DistillationRecipe):
    """The critic makes pictures true, `teaching.guidance` makes them follow their prompts: apart, what distribution
    matching under guidance does at once (arXiv:2511.22677). The student should already draw in one step, by whatever
    method."""

    guidance_weight: float = 10.0  # of what guidance adds; 0: the critic alone, as in APT
    mismatched: float = 0.5  # of the critic's loss on true pictures under another row's prompt
    noise_mean: float = -1.5  # of the logit of the timestep's share at which the critic sees latents …
    noise_deviation: float = 1.0  # … and its deviation
    r1: float = 0.5  # of the squared change of logits when latents change by noise of size …
    r1_noise: float = 0.1
    critic: Path | None = None  # that of an earlier run goes on: its `export`, or the file in there
    critic_first: int = 0  # steps in which the critic alone learns
    kind: Literal["apt"] = "apt"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("guidance_weight", "mismatched", "noise_deviation", "r1", "critic_first"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number from 0 up")
        require(self.r1_noise > 0, "r1_noise", self.r1_noise, "a number above 0")
        low, high = self.teaching.guidance
        require(low == high, "teaching.guidance", [low, high], "one scale twice")
        plain = self.teaching.weighting == "exponential" and self.teaching.steps == 1
        require(plain, "teaching", "other than guidance", "guidance alone")
        guides = not self.guidance_weight or low > 1
        require(guides, "teaching.guidance", [low, high], "above 1, or guidance_weight = 0")
        size = self.loop.batch_size
        require(size >= 2 or not self.mismatched, "loop.batch_size", size, "at least 2: rows lend each other prompts")


class AptObjective(Student):
    """Two players: `student`, and `discriminator`, a critic of latents that begins as the teacher's way down.

    Losses compare a false picture with the true one of the same prompt (relativistic, arXiv:1807.00734 and 2501.05441).
    """

    def __init__(self, recipe: AptRecipe) -> None:
        super().__init__(recipe)
        self.recipe: AptRecipe = recipe
        self.critic = self.trained["discriminator"] = LatentCritic.beginning_as(self.teacher.model.unet)
        if recipe.critic is not None:
            path = recipe.critic / CRITIC if os.path.isdir(recipe.critic) else recipe.critic
            load_network(self.critic, self.critic.config, path)
        shell: Any = build(self.teacher.model.system, "meta")
        shell.unet = self.critic
        self.sight = Teacher(shell)

    def optimizers(self) -> dict[str, list[torch.nn.Parameter]]:
        return {**super().optimizers(), "discriminator": list(self.critic.parameters())}

    def losses(self, batch: LatentBatch, context: StepContext) -> Iterator[Loss]:
        recipe, draws = self.recipe, context.draws
        learns = context.step >= recipe.critic_first
        with torch.set_grad_enabled(learns):
            play = self.play(batch, context)
        z0, z = play.z0, play.z.detach()
        told = self.told(batch, play.conditioning)
        if learns:
            t = self.teacher.levels(draws, recipe.noise_mean, recipe.noise_deviation)
            noise = draws.normal(*z.shape[1:]).to(z)
            with torch.no_grad():
                real = self._logits(z0, t, noise, told.conditioning)
            self.critic.requires_grad_(False)
            loss = F.softplus(real - self._logits(play.z, t, noise, told.conditioning)).mean()
            self.critic.requires_grad_(True)
            log = {**play.variety(), "deceiving": loss.detach()}
            if recipe.guidance_weight:
                guided = self._guided(play.z, told, draws)
                log["distillation"] = guided.detach()
                loss = loss + recipe.guidance_weight * guided
            yield Loss("student", loss, log)
        yield self._criticized(z0, z, told.conditioning, draws)

    def _guided(self, z: Tensor, told: Told, draws: RowDraws) -> Tensor:
        """Half the squared distance to z and, from there, what guidance adds to the teacher's estimate, over the mean
        distance of that from z."""
        with torch.no_grad():
            count = len(self.teacher.process.sigmas)
            t = (draws.uniform() * count).long()
            x = z + self.teacher.sigma(t, z) * draws.normal(*z.shape[1:]).to(z)
            scale = torch.full((len(t),), self.recipe.teaching.guidance[0])
            prompted, guided = self.teacher.compared(x, t, told, scale)
            size = (z - prompted).abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-6)
            target = z + (guided - prompted) / size
        return 0.5 * (z - target).square().mean()

    def _criticized(self, z0: Tensor, z: Tensor, conditioning: Conditioning, draws: RowDraws) -> Loss:
        """The critic's loss: true pictures before false ones and before those under another prompt; what a little noise
        changes is its roughness."""
        recipe, count = self.recipe, len(z)
        t = self.teacher.levels(draws, recipe.noise_mean, recipe.noise_deviation)
        noise = draws.normal(*z.shape[1:]).to(z)
        shaken = [x + recipe.r1_noise * draws.normal(*z.shape[1:]).to(z) for x in (z0, z)]
        latents, told = [z0, z, *shaken], [conditioning] * 4
        if recipe.mismatched:
            latents.append(z0)
            told.append(conditioning[[(i + 1) % count for i in range(count)]])
        times = len(latents)
        found = self._logits(torch.cat(latents), t.repeat(times), noise.repeat(times, 1, 1, 1), Conditioning.cat(told))
        real, fake, real_shaken, fake_shaken, *others = found.chunk(times)
        rough = (real - real_shaken).square().mean() + (fake - fake_shaken).square().mean()
        log = {"logits/real": real.detach().mean(), "logits/fake": fake.detach().mean(), "r1": rough.detach()}
        loss = F.softplus(fake - real).mean() + recipe.r1 * rough
        for other in others:
            log["logits/mismatched"] = other.detach().mean()
            loss = loss + recipe.mismatched * F.softplus(other - real).mean()
        return Loss("discriminator", loss, log)

    def _logits(self, z: Tensor, t: Tensor, noise: Tensor, conditioning: Conditioning) -> Tensor:
        """(B, 2) of latents noised to the timesteps t (B,)."""
        return self.sight.output(z + self.sight.sigma(t, z) * noise, t, conditioning)

    def export(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        """The student, and the critic beside it for a run that goes on from both."""
        super().export(folder, metadata)
        write_network(folder / CRITIC, self.critic, self.critic.config, metadata)
