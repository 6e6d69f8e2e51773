"""Objective: latent adversarial diffusion distillation (LADD, arXiv:2403.12015): judged by the teacher's features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.draws import RowDraws
from darkroom.errors import require
from darkroom.nn.embeddings import sinusoid
from darkroom.training.distillation.discriminator import Heads, unit_scaled
from darkroom.training.distillation.student import DistillationRecipe, Student
from darkroom.training.distillation.taps import attention_blocks, channels, tapped
from darkroom.training.distillation.teacher import Told, aim
from darkroom.training.latent_rows import LatentBatch
from darkroom.training.objective import Loss, StepContext

__all__ = ["LaddObjective", "LaddRecipe"]

LEVEL_WIDTH = 64  # of the embedding of a noise level


@dataclass(frozen=True)
class LaddRecipe(DistillationRecipe):
    """No pictures are decoded: a step takes a fraction of ADD's memory and time."""

    distillation_weight: float = 0.0  # in latents; pictures that the teacher drew itself need none
    noise_mean: float = 1.0  # of the logit of the timestep's share at which latents are noised again …
    noise_deviation: float = 1.0  # … and its deviation
    r1: float = 1e-5
    kernel: int = 3  # of the heads, on the grid of places
    kind: Literal["ladd"] = "ladd"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("distillation_weight", "noise_deviation", "r1"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number from 0 up")
        require(self.kernel % 2 == 1, "kernel", self.kernel, "an odd number")
        size = self.loop.batch_size
        require(size >= 2, "loop.batch_size", size, "at least 2: the discriminator's norms compare pictures")


class LaddObjective(Student):
    """Two players, `student` and `discriminator`: heads on what the teacher's attention blocks give."""

    def __init__(self, recipe: LaddRecipe) -> None:
        super().__init__(recipe)
        self.recipe: LaddRecipe = recipe
        self.blocks = attention_blocks(self.teacher.model.unet)
        conditions = {"level": LEVEL_WIDTH}
        if self.text_width is not None:
            conditions["text"] = self.text_width
        widths = [channels(b) for b in self.blocks]
        self.discriminator = self.trained["discriminator"] = Heads(widths, conditions, dims=2, kernel=recipe.kernel)

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {**super().optimizers(), "discriminator": list(self.discriminator.parameters())}

    def losses(self, batch: LatentBatch, context: StepContext) -> Iterator[Loss]:
        recipe, draws = self.recipe, context.draws
        play = self.play(batch, context)
        told = self.told(batch, play.conditioning)
        t = self.teacher.levels(draws, recipe.noise_mean, recipe.noise_deviation)
        conditions = {"level": unit_scaled(sinusoid(t.to(play.z.device), LEVEL_WIDTH))}
        if (text := self.text(batch)) is not None:
            conditions["text"] = unit_scaled(text)
        fake = self.seen(play.z, t, told.conditioning, draws)
        deceiving = self.discriminator.deceived(fake, conditions)
        log = {**play.variety(), "deceiving": deceiving.detach()}
        loss = deceiving
        if recipe.distillation_weight:
            distilled = self._distilled(batch, play.z, told, draws)
            log["distillation"] = distilled.detach()
            loss = loss + recipe.distillation_weight * distilled
        yield Loss("student", loss, log)
        with torch.no_grad():
            real = self.seen(play.z0, t, told.conditioning, draws)
        yield self.discriminator.criticized(real, fake, conditions, recipe.r1)

    def seen(self, latents: Tensor, t: Tensor, conditioning: Conditioning, draws: RowDraws) -> list[Tensor]:
        """The teacher's features of `latents` noised to t; gradients flow to the latents."""
        x = latents + self.teacher.sigma(t, latents) * draws.normal(*latents.shape[1:]).to(latents)
        return tapped(self.blocks, lambda: self.teacher.output(x, t, conditioning))

    def _distilled(self, batch: LatentBatch, z: Tensor, told: Told, draws: RowDraws) -> Tensor:
        found = aim(self.teacher, self.recipe.teaching, z, told, draws)
        distance = (z - found.latents).square().flatten(1).mean(dim=1)
        return (batch.weights.to(distance) * found.weight.to(distance) * distance).mean()
