"""Objective: adversarial diffusion distillation (ADD, arXiv:2311.17042; papers part F)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from darkroom.errors import require
from darkroom.pixels import to_tensor
from darkroom.training.distillation.discriminator import (
    Discriminator,
    DiscriminatorConfig,
    critic_loss,
    deceiving_loss,
    r1_penalty,
)
from darkroom.training.distillation.seeing import ConvolutionSight, load_sight
from darkroom.training.distillation.student import DistillationRecipe, Student
from darkroom.training.distillation.teacher import aim
from darkroom.training.distillation.watch import VARIETY, Watch, WatchConfig, variety
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
    watch: WatchConfig = field(default_factory=WatchConfig)
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
            sight = load_sight(
                config.features, config.side, recipe.loop.device, checkpointing=recipe.decode_rows is not None
            )
        self.frozen["sight"] = sight
        self.discriminator = self.trained["discriminator"] = Discriminator(sight, config, self.text_width)
        self.watch = self.trained["watch"] = Watch(recipe.watch)

    def optimizers(self) -> dict[str, list[nn.Parameter]]:
        return {**super().optimizers(), "discriminator": list(self.discriminator.parameters())}

    def losses(self, batch: LatentBatch, context: StepContext) -> Iterator[Loss]:
        draws = context.draws
        z0 = self.rows.latents(batch, context.places[0].size)
        conditioning = self.rows.conditioning(batch, context, drop=False)
        t = self.steps.draw(draws)
        at_last = self.steps.is_last(t, z0).flatten()
        network = self.network(conditioning)
        z = self.steps.estimate(network, self.given(network, z0, t, context), t)
        log = _variety(z, z0, at_last)
        images, true = self.decode(z), self._true(batch, z0)
        conditions = self.discriminator.conditions(self.text(batch), true, at_last)

        weights = batch.weights.to(z.device)
        loss = z.new_zeros(())
        fake = []
        if self.recipe.adversarial_weight:
            fake = self.discriminator.features(images, draws)
            self.discriminator.requires_grad_(False)
            deceiving = deceiving_loss(self.discriminator(fake, conditions))
            self.discriminator.requires_grad_(True)
            log["deceiving"] = deceiving.detach()
            loss = loss + self.recipe.adversarial_weight * deceiving
        if self.recipe.distillation_weight:
            found = aim(self.teacher, self.recipe.teaching, z, self.told(batch, conditioning), draws)
            distance = self._distance(z, images, found.latents)
            distilled = (weights * found.weight.to(distance) * distance).mean()
            log["distillation"] = distilled.detach()
            loss = loss + self.recipe.distillation_weight * distilled
        yield Loss("student", loss, log)

        if not self.recipe.adversarial_weight:
            return
        fake = [x.detach() for x in fake]
        with torch.no_grad():
            real = self.discriminator.features(true, draws)
        real = [x.detach().float().requires_grad_(True) for x in real]
        on_real, on_fake = self.discriminator(real, conditions), self.discriminator(fake, conditions)
        loss = critic_loss(on_real, on_fake)
        log = {"logits/real": _mean(on_real), "logits/fake": _mean(on_fake)}
        if self.recipe.discriminator.r1:
            penalty = r1_penalty(on_real, real)
            log["r1"] = penalty.detach()
            loss = loss + self.recipe.discriminator.r1 * penalty
        yield Loss("discriminator", loss, log)

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

    def trouble(self, step: int, numbers: Mapping[str, float]) -> str | None:
        """Why the run has collapsed, None while it has not; `numbers` are those of the log."""
        return self.watch.step(step, numbers)

    @property
    def good_step(self) -> int:
        """The last step at which all that is watched was sound."""
        return int(self.watch.good_step)  # type: ignore[arg-type]


def _mean(logits: list[Tensor]) -> Tensor:
    return torch.stack([x.detach().mean() for x in logits]).mean()


def _variety(z: Tensor, z0: Tensor, at_last: Tensor) -> dict[str, float | Tensor]:
    """Of the rows that began as pure noise: elsewhere the true picture gives variety."""
    if int(at_last.sum()) < 2:
        return {}
    return {VARIETY: variety(z.detach()[at_last], z0[at_last])}
