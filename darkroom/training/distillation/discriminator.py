"""The discriminator of adversarial distillation: frozen features, trained heads (papers F.2), and its losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.diffusion.draws import RowDraws
from darkroom.errors import require
from darkroom.models.feature_heads import FeatureHead, HeadConfig
from darkroom.training.distillation.augment import augmented
from darkroom.training.distillation.seeing import Sight
from darkroom.training.objective import Loss

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Heads",
    "critic_loss",
    "deceiving_loss",
    "r1_penalty",
    "unit_scaled",
]


@dataclass(frozen=True)
class DiscriminatorConfig:
    """`features`: a file of DINOv2 or a classifier of the classifier recipe; none: the model's own first stage."""

    features: Path | None = None
    side: int | None = None  # of what DINOv2 sees; None: 518 for pictures from 512 on, else 224
    text: bool = True  # logits depend on the prompt's embedding
    image: bool = True  # … and on that of the true picture
    image_at_last: bool = True  # also at the last level, where the student saw nothing of it; else zeros stand there
    augment: bool = True
    r1: float = 1e-5  # of the squared gradient at the heads' inputs, of true pictures

    def __post_init__(self) -> None:
        require(self.side is None or self.side >= 14, "side", self.side, "14 or more")
        require(self.r1 >= 0, "r1", self.r1, "a number from 0 up")


class Heads(nn.Module):
    """One head for each of several features of a frozen network, all told the same conditions (name → width)."""

    def __init__(self, widths: Sequence[int], conditions: Mapping[str, int], *, dims: int = 1, kernel: int = 9) -> None:
        super().__init__()
        self.heads = nn.ModuleList(FeatureHead(HeadConfig(width, conditions, dims, kernel)) for width in widths)

    def forward(self, features: Sequence[Tensor], conditions: Mapping[str, Tensor]) -> list[Tensor]:
        """Logits (B, places) of each head, in float32: R1 needs its digits."""
        with torch.autocast(features[0].device.type, enabled=False):
            return [head(x.float(), conditions) for head, x in zip(self.heads, features)]

    def deceived(self, features: Sequence[Tensor], conditions: Mapping[str, Tensor]) -> Tensor:
        """The student's loss; its gradient passes the heads and leaves none in them."""
        self.requires_grad_(False)
        loss = deceiving_loss(self(features, conditions))
        self.requires_grad_(True)
        return loss

    def criticized(
        self, real: Sequence[Tensor], fake: Sequence[Tensor], conditions: Mapping[str, Tensor], r1: float
    ) -> Loss:
        """The heads' own loss: hinge, and `r1` times the penalty. Features are taken as constants."""
        real = [x.detach().float().requires_grad_(True) for x in real]
        on_real, on_fake = self(real, conditions), self([x.detach() for x in fake], conditions)
        loss = critic_loss(on_real, on_fake)
        log: dict[str, float | Tensor] = {"logits/real": _mean(on_real), "logits/fake": _mean(on_fake)}
        if r1:
            penalty = r1_penalty(on_real, real)
            log["r1"] = penalty.detach()
            loss = loss + r1 * penalty
        return Loss("discriminator", loss, log)


class Discriminator(Heads):
    """Heads on what `sight` sees of pictures. The features are frozen, no part of this module and never saved."""

    def __init__(self, sight: Sight, config: DiscriminatorConfig, text_width: int | None) -> None:
        conditions = {}
        if config.text and text_width is not None:
            conditions["text"] = text_width
        if config.image:
            conditions["image"] = sight.embedding
        super().__init__(sight.widths, conditions)
        self.config = config
        self.sight = (sight,)  # not a child

    def features(self, images: Tensor, draws: RowDraws) -> list[Tensor]:
        """Of images (B, 3, H, W), augmented where the configuration says so; gradients flow to the images."""
        seen = augmented(images.float(), draws) if self.config.augment else images.float()
        return self.sight[0].features(seen, draws)

    def conditions(self, text: Tensor | None, images: Tensor, at_last: Tensor) -> dict[str, Tensor]:
        """Embeddings of unit scale: of texts (B, width), and of true images; `at_last` (B,) tells the rows of pure
        noise."""
        found = {}
        if self.config.text and text is not None:
            found["text"] = unit_scaled(text)
        if self.config.image:
            embedding = unit_scaled(self.sight[0].embed(images))
            if not self.config.image_at_last:
                embedding = torch.where(at_last.view(-1, 1).to(embedding.device), 0.0, embedding)
            found["image"] = embedding
        return found


def unit_scaled(x: Tensor) -> Tensor:
    """Rows (B, C) whose mean square is 1, so that no condition drowns the others."""
    x = x.float()
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def deceiving_loss(logits: Sequence[Tensor]) -> Tensor:
    """The student's: −Σ over heads of the mean logit."""
    return -torch.stack([x.mean() for x in logits]).sum()


def critic_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """The heads': hinge, meaned over each head's logits and summed over heads."""
    return torch.stack([F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake)]).sum()


def r1_penalty(logits: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
    """The squared gradient of each head's summed logits at its input, summed over heads and features, meaned over rows.

    `features` require a gradient; the result can be differentiated (papers F.1, step 7).
    """
    total = torch.stack([x.sum() for x in logits]).sum()
    gradients = torch.autograd.grad(total, list(features), create_graph=True)
    return torch.stack([g.square().sum() for g in gradients]).sum() / len(features[0])


def _mean(logits: Sequence[Tensor]) -> Tensor:
    return torch.stack([x.detach().mean() for x in logits]).mean()
