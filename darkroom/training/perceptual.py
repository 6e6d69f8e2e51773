"""Which perceptual distance a recipe means: LPIPS where VGG's weights are at hand, else a classifier trained here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from darkroom.checkpoints.native import load_strict, read_network
from darkroom.checkpoints.open_file import open_weights
from darkroom.errors import InputError
from darkroom.models.classifier import Classifier, ClassifierConfig
from darkroom.models.lpips import LPIPS
from darkroom.models.perceptual import feature_distance

__all__ = ["load_distance"]

PREFIXES = ("", "loss.perceptual_loss.")  # alone, or within a released first stage


def load_distance(path: Path, device: torch.device | str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """distance(a, b) of pictures (B, 3, H, W) in [−1, 1], (B,), frozen; gradients flow to b.

    `path`: a file of LPIPS weights or of a released first stage that carries them, or a classifier that the classifier
    recipe exported.
    """
    weights = open_weights(path)
    for prefix in PREFIXES:
        if f"{prefix}lin0.model.1.weight" in weights:
            network = LPIPS()
            missing = [k for k in network.state_dict() if prefix + k not in weights]
            if missing:
                raise InputError(f"{path} lacks {', '.join(missing)} of LPIPS")
            network.load_state_dict({k: weights[prefix + k].load(torch.float32) for k in network.state_dict()})
            return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if "config" not in weights.metadata:
        raise InputError(f"{path} holds neither LPIPS weights nor a classifier of the classifier recipe")
    config, state = read_network(path, ClassifierConfig)
    classifier = Classifier(config)
    load_strict(classifier, state, path)
    classifier.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return partial(feature_distance, classifier.features)
