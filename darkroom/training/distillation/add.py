"""Objective: adversarial diffusion distillation (ADD, arXiv:2311.17042; papers part F)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from darkroom.errors import require
from darkroom.pixels import to_tensor
from darkroom.training.distillation.discriminator import Discriminator, DiscriminatorConfig
from darkroom.training.distillation.seeing import ConvolutionSight, load_sight
from darkroom.training.distillation.student import DistillationRecipe, Student
from darkroom.training.distillation.teacher import aim
from darkroom.training.latent_rows import LatentBatch
from darkroom.training.objective import Loss, StepContext

__all__ = ["AddObjective", "AddRecipe"]


@dataclass(frozen=True)
class AddRecipe(DistillationRecipe):
    """What the paper leaves open is a key with the default that `docs/distillation.md` argues for."""

    distillation_weight: float = 2.5  # lambda; 0: adversarial alone
    adversarial_weight: float = 1.0  # 0: distillation alone
    distance: Literal["pixels", "latents"] = "pixels"  # where the student is compared with its teacher
    true: Literal["pictures", "decoded"] = "pictures"  # "decoded": true ones, too, go through the first stage
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    kind: Literal["add"] = "add"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("distillation_weight", "adversarial_weight"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number from 0 up")
        size = self.loop.batch_size
        require(size >= 2, "loop.batch_size", size, "at least 2: the discriminator's norms compare pictures")


class AddObjective(Student):
    """Two players, `student` and `discriminator`, on the same batch, each with an optimizer of its own."""

    def __init__(self, recipe: AddRecipe) -> None:
        self.reads_pixels = recipe.true == "pictures"
        super().__init__(recipe)
        self.recipe: AddRecipe = recipe
        config = recipe.discriminator
        if config.features is None:
            sight = ConvolutionSight(self.model.autoencoder.encoder)
        else:
            again = recipe.loop.gradient_checkpointing
            sight = load_sight(config.features, config.side, recipe.loop.device, checkpointing=again)
        self.frozen["sight"] = sight
        self.discriminator = self.trained["discriminator"] = Discriminator(sight, config, self.text_width)

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {**super().optimizers(), "discriminator": list(self.discriminator.parameters())}

    def losses(self, batch: LatentBatch, context: StepContext) -> Iterator[Loss]:
        recipe, draws = self.recipe, context.draws
        play = self.play(batch, context)
        log = play.variety()
        images, true = self.decode(play.z), self._true(batch, play.z0)
        conditions = self.discriminator.conditions(self.text(batch), true, play.at_last)
        loss = play.z.new_zeros(())
        fake = []
        if recipe.adversarial_weight:
            fake = self.discriminator.features(images, draws)
            deceiving = self.discriminator.deceived(fake, conditions)
            log["deceiving"] = deceiving.detach()
            loss = loss + recipe.adversarial_weight * deceiving
        if recipe.distillation_weight:
            found = aim(self.teacher, recipe.teaching, play.z, self.told(batch, play.conditioning), draws)
            distance = self._distance(play.z, images, found.latents)
            distilled = (batch.weights.to(distance) * found.weight.to(distance) * distance).mean()
            log["distillation"] = distilled.detach()
            loss = loss + recipe.distillation_weight * distilled
        yield Loss("student", loss, log)
        if recipe.adversarial_weight:
            with torch.no_grad():
                real = self.discriminator.features(true, draws)
            yield self.discriminator.criticized(real, fake, conditions, recipe.discriminator.r1)

    @torch.no_grad()
    def _true(self, batch: LatentBatch, z0: Tensor) -> Tensor:
        """The true pictures (B, 3, H, W) that the discriminator sees."""
        if not self.reads_pixels:
            return self.decode(z0)
        return torch.cat([to_tensor(p[None]) for p in batch.pixels if p is not None]).to(z0.device)

    def _distance(self, z: Tensor, images: Tensor, theirs: Tensor) -> Tensor:
        """Mean squared difference (B,) of the student's latents, or of its pictures, to the teacher's."""
        if self.recipe.distance == "latents":
            return (z - theirs).square().flatten(1).mean(dim=1)
        with torch.no_grad():
            target = self.decode(theirs)
        return (images - target).square().flatten(1).mean(dim=1)
