"""What a distillation takes beside its student: teacher, critics, decoded pictures. Nothing is computed: the networks
run on PyTorch's device "meta"."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from darkroom.conditioning.clip_text import ClipTextEmbedderConfig
from darkroom.errors import InputError
from darkroom.models.dino import DINO_SMALL, Dino
from darkroom.models.feature_heads import FeatureHead, HeadConfig
from darkroom.models.latent_critic import LatentCritic
from darkroom.systems.build import LatentDiffusion
from darkroom.systems.empty import empty_modules
from darkroom.systems.system import System
from darkroom.training.distillation.add import AddRecipe
from darkroom.training.distillation.apt import AptRecipe
from darkroom.training.distillation.consistency import ConsistencyRecipe
from darkroom.training.distillation.dmd import DmdRecipe
from darkroom.training.distillation.ladd import LEVEL_WIDTH, LaddRecipe
from darkroom.training.distillation.progressive import ProgressiveRecipe
from darkroom.training.distillation.seeing import ConvolutionSight, DinoSight, load_sight
from darkroom.training.distillation.student import DistillationRecipe
from darkroom.training.distillation.taps import attention_blocks, channels, tapped
from darkroom.training.meta_passes import Activations, measured_activations
from darkroom.types import Size

__all__ = ["Beside", "beside_student"]

Pass = Callable[[nn.Module, Tensor], Tensor]  # a UNet on latents, told what rows are told


@dataclass(frozen=True)
class Beside:
    """Bytes by part, and FLOPs of a micro-batch, beside the student's weights, its activations and its one pass there
    and back. `critics`: parameters that learn, too; `means`: running means of the student that its losses need."""

    critics: int
    teacher: float
    features: float  # the network through which ADD's discriminator sees pictures
    activations: float
    flops: float
    means: int = 0


def beside_student(
    recipe: DistillationRecipe,
    model: LatentDiffusion,
    latents: Tensor,
    run: Pass,
    size: Size,
    student: Activations,
) -> Beside:
    """Of `recipe`, whose student `model` is on "meta" and takes `student` to `run` there and back on `latents`."""
    kind, unet = latents.dtype, model.unet
    teacher = sum(p.numel() for p in unet.parameters()) * (4.0 if kind == torch.float32 else 2.0)
    if recipe.teacher is not None:  # it brings text encoders of its own
        teacher += 4 * sum(p.numel() for p in model.conditioner.parameters())
    c = _Costs(recipe, model, latents, run, size, student)
    played = (len(recipe.times) - 1) * c.forward if recipe.inputs == "simulated" else 0.0  # at most
    match recipe:
        case AddRecipe():
            critics, features, activations, flops = c.add(recipe)
        case AptRecipe():
            critics, features, activations, flops = c.apt(recipe)
        case LaddRecipe():
            blocks = attention_blocks(unet)
            widths = [channels(b) for b in blocks]
            critics, features = _heads(widths, {"level": LEVEL_WIDTH, **c.text}, 2, recipe.kernel), 0.0
            activations = c.frozen.kept(checkpointing=c.again)
            # The heads see what is false for the student, there and back to it, and both for themselves.
            heads = (2 + 2 * 3) * _heads_work(tapped(blocks, lambda: run(unet, latents)), recipe.kernel)
            flops = c.frozen_flops + c.forward + heads + (c.aim if recipe.distillation_weight else 0.0)
        case DmdRecipe():
            width = channels(unet.mid_block2)
            critics = sum(p.numel() for p in unet.parameters()) + 16 * width**2 + 2 * width + 1
            features, activations, flops = 0.0, *c.dmd(recipe)
        case ConsistencyRecipe():
            critics, features, activations, flops = 0, 0.0, 0.0, c.aim + c.forward
        case ProgressiveRecipe():
            critics, features, activations, flops = 0, 0.0, 0.0, 2 * c.aim
        case _:
            raise InputError(f"a recipe of kind {getattr(recipe, 'kind', '')} cannot be planned")
    means = int(isinstance(recipe, ConsistencyRecipe) and recipe.target_decay > 0)
    return Beside(critics, teacher, features, activations, played + flops, means)


@dataclass(frozen=True)
class _Costs:
    recipe: DistillationRecipe
    model: LatentDiffusion
    latents: Tensor
    run: Pass
    size: Size
    student: Activations

    @property
    def again(self) -> bool:
        return self.recipe.loop.gradient_checkpointing

    @property
    def forward(self) -> float:
        """FLOPs of a UNet's forward pass."""
        return self.student.forward_flops

    @property
    def both(self) -> float:
        """FLOPs of a UNet's forward and backward pass."""
        return self.student.flops + (self.forward if self.again else 0.0)

    @property
    def aim(self) -> float:
        """FLOPs of the teacher's view."""
        teaching = self.recipe.teaching
        rows = 3 if teaching.weighting == "nfsd" else 2 if teaching.needs_null else 1
        return rows * teaching.steps * self.forward

    @property
    def text(self) -> dict[str, int]:
        """The width of the prompt's embedding that critics are told, by its name."""
        width = _text_width(self.model.system)
        return {} if width is None else {"text": width}

    @cached_property
    def frozen(self) -> Activations:
        """A pass through a UNet that does not learn, back to its latents."""
        return self._back_to(self.model.unet, self.latents, lambda x: self.run(self.model.unet, x))

    @property
    def frozen_flops(self) -> float:
        return self.frozen.flops + (self.forward if self.again else 0.0)

    def _back_to(self, network: nn.Module, given: Tensor, run: Callable[[Tensor], Tensor]) -> Activations:
        learned = [p for p in network.parameters() if p.requires_grad]
        network.requires_grad_(False)
        x = given.detach().requires_grad_(True)
        try:
            return measured_activations(network, lambda: run(x), given.dtype)
        finally:
            for p in learned:
                p.requires_grad_(True)

    def add(self, recipe: AddRecipe) -> tuple[int, float, float, float]:
        """Parameters of heads, bytes of the network that sees, activations, FLOPs."""
        rows, stage = len(self.latents), self.model.autoencoder
        images = torch.empty(rows, 3, self.size.height, self.size.width, device="meta", dtype=self.latents.dtype)
        z = torch.empty(rows, stage.config.latent_channels, *self.latents.shape[-2:], device="meta", dtype=images.dtype)
        together = min(recipe.decode_rows or rows, rows)
        part = self._back_to(stage, z[:together], stage.decode_unquantized)
        times = rows / together
        held = part.kept(checkpointing=self.again)
        activations = held if together == rows else held + 4.0 * images.numel()
        once, recomputed = times * part.forward_flops, together < rows or self.again
        flops = times * part.flops + (once if recomputed else 0.0)
        if recipe.true == "decoded":
            flops += once
        if recipe.distillation_weight:
            flops += self.aim + (once if recipe.distance == "pixels" else 0.0)
        if not recipe.adversarial_weight:
            return 0, 0.0, activations, flops
        sight, seen = self._seen(recipe, images)
        again = seen.forward_flops if self.again else 0.0
        looks = 2 if recipe.discriminator.image else 1  # at true pictures: for features, for the embedding
        told = self.text if recipe.discriminator.text else {}
        told = {**told, **({"image": sight.embedding} if recipe.discriminator.image else {})}
        own = 0.0 if recipe.discriminator.features is None else 4.0 * sum(p.numel() for p in sight.parameters())
        return (
            _heads(sight.widths, told, 1, 9),
            own,
            activations + seen.kept(checkpointing=self.again),
            flops + seen.flops + again + looks * seen.forward_flops,
        )

    def _seen(self, recipe: AddRecipe, images: Tensor) -> tuple[DinoSight | ConvolutionSight, Activations]:
        """The network that sees pictures, on "meta", and what a pass through it takes, back to the pictures."""
        config = recipe.discriminator
        if config.features is None:
            sight: DinoSight | ConvolutionSight = ConvolutionSight(self.model.autoencoder.encoder)
        elif os.path.exists(config.features):
            sight = load_sight(config.features, config.side, "cpu", checkpointing=False).to("meta")
        else:  # to be downloaded later
            with empty_modules():
                sight = DinoSight(Dino(DINO_SMALL), config.side)
        network: Any = sight.network
        if isinstance(sight, ConvolutionSight):
            return sight, self._back_to(network, images, lambda x: _side_by_side(network.features(x)))
        side = sight.seen_side(images)
        x = images.new_empty(len(images), 3, side, side)
        return sight, self._back_to(network, x, lambda x: _side_by_side(network.tokens(x, sight.depths)))

    def apt(self, recipe: AptRecipe) -> tuple[int, float, float, float]:
        """Parameters of the critic, bytes of features, of which there are none, activations, FLOPs."""
        with empty_modules():
            critic = LatentCritic(self.model.unet.config)
        learning = measured_activations(critic, lambda: self.run(critic, self.latents), self.latents.dtype)
        seen = self._back_to(critic, self.latents, lambda x: self.run(critic, x))
        again = learning.forward_flops if self.again else 0.0
        times = 5 if recipe.mismatched else 4  # the rows of a batch that it learns from
        # The student is told by what the critic makes of true rows and, back to the latents, of its own.
        flops = learning.forward_flops + seen.flops + again + times * (learning.flops + again)
        flops += self.aim if recipe.guidance_weight else 0.0
        kept = times * learning.kept(checkpointing=self.again) - self.student.kept(checkpointing=self.again)
        activations = max(seen.kept(checkpointing=self.again), kept)
        return sum(p.numel() for p in critic.parameters()), 0.0, activations, flops

    def dmd(self, recipe: DmdRecipe) -> tuple[float, float]:
        """Activations and FLOPs. The student plays at every step and learns at some; the score learns at every one."""
        adversarial = float(recipe.adversarial_weight > 0)
        # Of a pass for logits all of the score runs, and what lies before its middle goes back.
        to_middle = self._back_to(self.model.unet, self.latents, self._middle).flops - self.forward
        back = to_middle / (self.frozen.flops - self.forward)
        deceived = adversarial * (self.forward + back * (self.frozen_flops - self.forward))
        turn = self.both - self.forward + self.aim + self.forward + deceived
        score = self.both + adversarial * 2 * (self.forward + back * (self.both - self.forward))
        own, seen = self.student.kept(checkpointing=self.again), self.frozen.kept(checkpointing=self.again)
        phases = adversarial * seen / 2, adversarial * own  # the student's, the score's
        return max(phases), self.forward + turn / recipe.student_every + score - self.both

    def _middle(self, latents: Tensor) -> Tensor:
        """What the UNet's middle gives; all of it runs."""
        unet = self.model.unet
        return tapped([unet.mid_block2], lambda: self.run(unet, latents))[0]


def _side_by_side(maps: Sequence[Tensor]) -> Tensor:
    return torch.cat([m.flatten(1) for m in maps], dim=1)


def _heads(widths: Sequence[int], conditions: Mapping[str, int], dims: int, kernel: int) -> int:
    """Parameters of heads on features of `widths`."""

    def one(width: int) -> int:
        return sum(p.numel() for p in FeatureHead(HeadConfig(width, conditions, dims, kernel)).parameters())

    return sum(count * one(width) for width, count in Counter(widths).items())


def _heads_work(features: Sequence[Tensor], kernel: int) -> float:
    """FLOPs of the convolutions of heads on maps (B, C, h, w), there."""
    return sum(2 * f.numel() * (f.shape[1] * (1 + kernel**2) + HeadConfig.projected) for f in features)


def _text_width(system: System) -> int | None:
    """Of the pooled output of text towers, where there is one, else of the tokens."""
    for config in system.embedders:
        if isinstance(config, ClipTextEmbedderConfig):
            pooled = [t.tower.projection or t.tower.width for t in config.towers if t.pooled]
            return sum(pooled) or system.unet.context_dim
        if config.key == "caption":
            return system.unet.context_dim
    return None
