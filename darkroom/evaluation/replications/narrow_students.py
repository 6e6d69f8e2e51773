"""Adversarial distillation of narrow denoisers on tensors in memory: what the ablations of ADD have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.diffusion.draws import RowDraws, sample_seed
from darkroom.evaluation.replications.laboratory import (
    PROCESS,
    Group,
    Narrow,
    NarrowDenoiser,
    learn,
    learn_together,
    learned_denoiser,
    loop,
)
from darkroom.models.classifier import Classifier, ClassifierConfig
from darkroom.training.config import LoopConfig
from darkroom.training.distillation.discriminator import Discriminator, DiscriminatorConfig
from darkroom.training.distillation.few_steps import FewSteps
from darkroom.training.distillation.seeing import ConvolutionSight, Sight
from darkroom.training.distillation.teacher import Teacher, TeacherConfig, Told, aim
from darkroom.types import Size

__all__ = [
    "Distilling",
    "NarrowTeacher",
    "PixelSight",
    "Taught",
    "few_steps_drawn",
    "student_of",
    "taught",
    "with_softness",
]

DROPPED, SOFTENED = 0.1, 0.1  # shares of the pictures whose prompts are left out, and that are blurred and told so
DISTILLATION_WEIGHT = 2.5
SEEN, WIDTH = 16, 16  # pixels that a trunk sees along a side, and its channels
TIMES = (249, 499, 749, 999)
SHARES = (0.1, 0.1, 0.1, 0.7)  # of the times: one step is measured


@dataclass(frozen=True)
class Distilling:
    """One way of distilling. The defaults are the ones that the paper settles on."""

    sight: Literal["trained", "random", "pixels"] = "trained"  # what the discriminator sees pictures through
    text: bool = True
    image: bool = True
    pretrained: bool = True  # whether the student begins as its teacher
    adversarial: bool = True
    teaching: TeacherConfig | None = field(default_factory=TeacherConfig)  # None: adversarial alone
    times: tuple[int, ...] = TIMES
    teacher: Literal["own", "muted"] = "own"  # "muted": one that has learned pictures of half the saturation


class NarrowTeacher(Teacher):
    """A narrow denoiser in the teacher's place."""

    def __init__(self, network: NarrowDenoiser) -> None:
        self.process, self.narrow = PROCESS, network
        self.guided_from, self.guided_to = 0, len(PROCESS.sigmas)

    def output(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        _, _, c_in = self.process.scalings(self.sigma(t, x))
        return self.narrow(c_in * x, t.to(torch.float32), conditioning)


class TrunkSight(ConvolutionSight):
    """A classifier's maps of pictures that are enlarged for it."""

    def features(self, images: Tensor, draws: RowDraws) -> list[Tensor]:
        return super().features(seen(images), draws)

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(seen(images))


def seen(images: Tensor) -> Tensor:
    """Images (B, 3, s, s) as a trunk sees them."""
    return F.interpolate(images, size=SEEN, mode="bilinear")


class PixelSight(nn.Module):
    """No network: each place is seen as it is."""

    widths: Sequence[int] = (3,)
    embedding = 3

    def features(self, images: Tensor, draws: RowDraws) -> list[Tensor]:
        return [images.flatten(2)]

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


@dataclass(frozen=True)
class Taught:
    """What all ways share: pictures (N, 3, s, s), what is told of each (N, D), networks trained on them."""

    pictures: Tensor
    told: Tensor
    teachers: dict[str, NarrowDenoiser]
    sights: dict[str, Sight]


def blurred(pictures: Tensor) -> Tensor:
    """Pictures (N, 3, s, s) whose details are gone."""
    side = pictures.shape[2]
    return F.interpolate(F.avg_pool2d(pictures, 2), size=side, mode="bilinear").clamp(-1, 1)


def negative(like: Tensor) -> Tensor:
    """What a picture of defects is told (N, D): nothing but its last number."""
    return torch.eye(like.shape[1])[-1].expand(len(like), -1)


def with_softness(told: Tensor) -> Tensor:
    """`told` (N, D − 1) and, as one more number, that the picture is not blurred."""
    return F.pad(told, (0, 1))


def taught(pictures: Tensor, told: Tensor, steps: int, seed: int) -> Taught:
    """Teachers and features that learn for `steps` steps from pictures (N, 3, s, s), told (N, D − 1).

    A tenth learns without a prompt, as guidance needs it; a tenth is blurred and told so, for the prompt of defects.
    """
    told = with_softness(told)
    generator = torch.Generator().manual_seed(seed)
    lot = torch.rand(len(pictures), generator=generator)
    with_prompts = torch.where((lot < DROPPED)[:, None], 0.0, told)
    soft = (lot > 1 - SOFTENED).nonzero().flatten()
    shown = pictures.clone()
    shown[soft], with_prompts[soft] = blurred(pictures[soft]), negative(told[soft])
    config, how = Narrow(vector=told.shape[1]), loop(steps, seed)
    own = learned_denoiser(config, [Group(shown, Conditioning(vector=with_prompts))], how)
    gray = shown.mean(dim=1, keepdim=True)
    pale = Group(gray + (shown - gray) / 2, Conditioning(vector=with_prompts))
    muted = learned_denoiser(config, [pale], loop(max(1, steps // 4), seed, lr=1e-3), begin=own)
    teachers = {"own": own.requires_grad_(False), "muted": muted.requires_grad_(False)}
    trained, random = (_trunk(told.shape[1] - 1, seed) for _ in range(2))
    _learn_labels(trained, pictures, told[:, :-1], loop(max(1, steps // 2), seed))
    _meet(random, pictures)
    sights: dict[str, Sight] = {
        "trained": TrunkSight(trained.requires_grad_(False)),
        "random": TrunkSight(random.requires_grad_(False)),
        "pixels": PixelSight(),
    }
    return Taught(pictures, told, teachers, sights)


def _trunk(labels: int, seed: int) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(ClassifierConfig(tuple(str(i) for i in range(labels)), WIDTH))


def _learn_labels(network: Classifier, pictures: Tensor, told: Tensor, how: LoopConfig) -> None:
    """Which of the labels told (N, D) pictures (N, 3, s, s) show."""

    def loss(rows: Tensor, draws: RowDraws) -> Tensor:
        logits = network(seen(pictures[rows])).mean(dim=(2, 3))
        return F.binary_cross_entropy_with_logits(logits, told[rows])

    learn(network, loss, {Size(1, 1): range(len(pictures))}, how)


@torch.no_grad()
def _meet(network: Classifier, pictures: Tensor) -> None:
    """Its norms take the statistics of what it sees, and nothing else changes."""
    network.train()
    for part in pictures[:640].split(64):
        network(seen(part))
    network.eval()


def student_of(taught: Taught, way: Distilling, how: LoopConfig) -> NarrowDenoiser:
    """The student after `how.steps` steps, its running mean in place."""
    torch.manual_seed(how.seed)
    teacher = taught.teachers[way.teacher]
    student = NarrowDenoiser(Narrow(vector=taught.told.shape[1]), [taught.pictures])
    if way.pretrained:
        student.load_state_dict(teacher.state_dict())
    view, steps = NarrowTeacher(teacher), FewSteps(PROCESS, way.times, SHARES[-len(way.times) :])
    config = DiscriminatorConfig(text=way.text, image=way.image, augment=False)
    discriminator = Discriminator(taught.sights[way.sight], config, taught.told.shape[1])

    def losses(rows: Tensor, draws: RowDraws) -> Iterator[Tensor]:
        true, told = taught.pictures[rows], taught.told[rows]
        prompts = Conditioning(vector=told)
        t = steps.draw(draws)
        x = steps.noised(true, draws.normal(*true.shape[1:]), t)
        drawn = steps.estimate(partial(student, told=prompts), x, t)
        conditions = discriminator.conditions(told, true, steps.is_last(t, true).flatten())
        loss, fake = drawn.new_zeros(()), []
        if way.adversarial:
            fake = discriminator.features(drawn, draws)
            loss = loss + discriminator.deceived(fake, conditions)
        if way.teaching is not None:
            said = Told(prompts, Conditioning(vector=0 * told), Conditioning(vector=negative(told)))
            found = aim(view, way.teaching, drawn, said, draws)
            distance = (drawn - found.latents).square().mean(dim=(1, 2, 3))
            loss = loss + DISTILLATION_WEIGHT * (found.weight * distance).mean()
        yield loss
        if way.adversarial:
            real = discriminator.features(true, draws)
            yield discriminator.criticized(real, fake, conditions, config.r1).value

    networks = {"student": student} | ({"discriminator": discriminator} if way.adversarial else {})
    learn_together(networks, losses, {Size(1, 1): range(len(taught.pictures))}, how)
    return student


@torch.no_grad()
def few_steps_drawn(student: NarrowDenoiser, told: Tensor, side: int, times: Sequence[int], seed: int) -> Tensor:
    """Pictures (N, 3, side, side) of rows told (N, D), each from noise of its own, at falling `times`; between them the
    estimate is noised again."""
    steps, prompts = FewSteps(PROCESS, sorted(times)), Conditioning(vector=told)
    draws = RowDraws([sample_seed(seed, i) for i in range(len(told))])
    noise = draws.normal(3, side, side)
    t = torch.full((len(told),), min(times))
    network = partial(student, told=prompts)
    x = steps.simulated(network, noise, t, draws)
    return steps.estimate(network, x, t)
