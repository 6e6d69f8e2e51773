"""Frozen networks through which a discriminator sees pictures, block by block."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darkroom.checkpoints.dino import load_dino
from darkroom.checkpoints.native import load_strict, read_network
from darkroom.checkpoints.open_file import open_weights
from darkroom.diffusion.draws import RowDraws
from darkroom.models.autoencoder import Encoder
from darkroom.models.classifier import Classifier, ClassifierConfig
from darkroom.models.dino import Dino, normalize_image
from darkroom.nn.checkpointing import recomputed
from darkroom.training.distillation.augment import cropped

__all__ = ["ConvolutionSight", "DinoSight", "Sight", "load_sight"]

MOST_PLACES = 32  # a side, of maps that a head reads


class Sight(Protocol):
    """Sequences (B, C, N) that heads read, and one embedding of the whole picture."""

    widths: Sequence[int]  # of the sequences
    embedding: int  # width of the embedding

    def features(self, images: Tensor, draws: RowDraws) -> list[Tensor]:
        """Of images (B, 3, H, W) in [−1, 1]; gradients flow to the images."""
        ...

    def embed(self, images: Tensor) -> Tensor:
        """(B, embedding)."""
        ...


class DinoSight(nn.Module):
    """DINOv2: tokens with positions and those behind every third block, the class token added to each patch's.

    `side`: of the picture that it sees; None: 518 for pictures from 512 on, 224 for smaller ones (papers F.6).
    """

    def __init__(self, network: Dino, side: int | None, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.network, self.side, self.checkpointing = network, side, checkpointing
        layers = network.config.layers
        self.depths = (0, *dict.fromkeys(max(1, round(layers * i / 4)) for i in (1, 2, 3, 4)))
        self.widths: Sequence[int] = [network.config.width] * len(self.depths)
        self.embedding = network.config.width

    def features(self, images: Tensor, draws: RowDraws) -> list[Tensor]:
        x = normalize_image(cropped(images, draws, self.seen_side(images)))
        tokens = recomputed(self._tokens, x) if self.checkpointing else self._tokens(x)
        return [(t[:, 1:] + t[:, :1]).transpose(1, 2) for t in tokens]

    def _tokens(self, x: Tensor) -> list[Tensor]:
        return self.network.tokens(x, self.depths)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        return self.network(normalize_image(images, self.seen_side(images))).float()

    def seen_side(self, images: Tensor) -> int:
        """The side of what it sees of images (B, 3, H, W)."""
        if self.side is not None:
            return self.side
        patch = self.network.config.patch
        return self.network.config.image_size if min(images.shape[-2:]) >= 512 else 224 // patch * patch


class ConvolutionSight(nn.Module):
    """Maps of a convolutional network of this project, the classifier or a first stage's encoder, as sequences."""

    def __init__(self, network: Classifier | Encoder) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            blank = torch.zeros(1, 3, 64, 64, device=next(network.parameters()).device)
            self.widths: Sequence[int] = [m.shape[1] for m in network.features(blank)]
        self.embedding = self.widths[-1]

    def features(self, images: Tensor, draws: RowDraws) -> list[Tensor]:
        return [F.adaptive_avg_pool2d(m, _places(m)).flatten(2) for m in self.network.features(images)]

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        return self.network.features(images)[-1].float().mean(dim=(2, 3))


def load_sight(path: Path, side: int | None, device: str, *, checkpointing: bool) -> DinoSight | ConvolutionSight:
    """The frozen network in the file: a classifier that the classifier recipe exported, else DINOv2 in any layout."""
    if os.path.isfile(path) and "config" in open_weights(path).metadata:
        config, state = read_network(path, ClassifierConfig)
        classifier = Classifier(config)
        load_strict(classifier, state, path)
        found: DinoSight | ConvolutionSight = ConvolutionSight(classifier)
    else:
        found = DinoSight(load_dino(path), side, checkpointing=checkpointing)
    return found.eval().requires_grad_(False).to(device)


def _places(x: Tensor) -> tuple[int, int]:
    return min(x.shape[-2], MOST_PLACES), min(x.shape[-1], MOST_PLACES)
