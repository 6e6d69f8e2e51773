"""Networks through which metrics see pictures, by name. Each tells its weights and how it resizes, so that numbers can
be told apart: the same distance through other weights or another resize is another number.

    judge               the judge of the picture-book world, which ships; says little of other pictures
    inception=FILE      the network of the FID, pt_inception-2015-12-05 (pytorch-fid's or torch-fidelity's file)
    clip=FOLDER         a CLIP model of transformers, or its hub id; ViT-L/14 at 336 pixels is CMMD's
    dinov2=FILE         a DINOv2 network, the release's file, transformers' folder or hub id; ViT-L/14 is FD-DINOv2's
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.checkpoints.dino import load_dino
from darkroom.checkpoints.feature_networks import load_clip, load_inception
from darkroom.checkpoints.fingerprint import model_hash
from darkroom.checkpoints.locate import locate, locate_network
from darkroom.errors import InputError
from darkroom.evaluation.judging import load_judge
from darkroom.models import inception as inception_network
from darkroom.models.clip_tokenizer import ClipTokenizer
from darkroom.models.dino import normalize_image
from darkroom.models.vision import MEAN, STD
from darkroom.registry import Registry

__all__ = ["FEATURES", "FeatureNetwork", "Texts", "center_square", "open_features", "resized"]


@dataclass(frozen=True)
class Texts:
    """Unit rows (N, D) of N texts, and how many of them were longer than the network reads."""

    rows: np.ndarray
    cut: int


@dataclass(frozen=True)
class FeatureNetwork:
    """`of` turns pictures (B, 3, H, W) in [−1, 1] into features (B, D); `digest` is of its weights."""

    name: str
    digest: str
    law: str  # how pictures are brought to the network's size
    of: Callable[[Tensor], Tensor]
    resizes: bool = True  # takes pictures of any size, as it brings them to its own
    classes: Callable[[np.ndarray], np.ndarray] | None = None  # features (B, D) to probabilities (B, C), each row 1
    texts: Callable[[Sequence[str]], Texts] | None = None  # into the space of the features
    device: str = "cpu"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> np.ndarray:
        return self.of(images.to(self.device)).float().cpu().numpy()

    @property
    def identity(self) -> str:
        """Names the numbers that it gives: equal identities, equal features."""
        return f"{self.name}|{self.digest}|{self.law}"


# A network from what stands behind "=", the user's name for its weights, on a device.
FEATURES: Registry[Callable[[str | None, str], FeatureNetwork]] = Registry("feature network")


def open_features(spec: str, device: str = "cpu") -> FeatureNetwork:
    """The network that NAME or NAME=WEIGHTS means; `InputError` for what is unknown or missing."""
    name, _, weights = spec.partition("=")
    return FEATURES[name.strip()](weights.strip() or None, device)


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with antialiasing (a = −0.5), as Pillow does it, without rounding to whole values."""
    return F.interpolate(images.float(), size=(height, width), mode="bicubic", antialias=True, align_corners=False)


def center_square(images: Tensor, side: int) -> Tensor:
    """The shorter side brought to `side`, the middle square cut out, clipped to [−1, 1]: what CLIP was trained on."""
    h, w = images.shape[-2:]
    short = min(h, w)
    height, width = (int(side * n / short) for n in (h, w))
    x = resized(images, height, width).clamp(-1, 1)
    top, left = (height - side) // 2, (width - side) // 2
    return x[..., top : top + side, left : left + side]


def judge(weights: str | None, device: str) -> FeatureNetwork:
    """The network that ships, or another judge of the picture-book world from its file."""
    network = load_judge(None if weights is None else locate(weights)).to(device)
    held = hashlib.sha256(b"".join(p.detach().float().cpu().numpy().tobytes() for p in network.parameters()))

    def classes(features: np.ndarray) -> np.ndarray:
        """Sky, ground and background together, as if they had nothing to do with each other."""
        rows = torch.from_numpy(features).to(device)
        joint = torch.ones(len(rows), 1, device=device)
        with torch.no_grad():
            for head in network.surroundings.values():
                joint = (joint[:, :, None] * head(rows).softmax(dim=1)[:, None]).flatten(1)
        return joint.cpu().numpy()

    return FeatureNetwork(
        "judge",
        held.hexdigest()[:10],
        "pictures as they are",
        lambda images: network(images).features,
        resizes=False,
        classes=classes,
        device=device,
    )


def inception(weights: str | None, device: str) -> FeatureNetwork:
    """2048 features; the resize is clean-fid's (Parmar et al. 2022)."""
    path = locate_network(_given(weights, "inception", "the file pt_inception-2015-12-05-6726825d.pth"))
    network = load_inception(path, device)
    side = inception_network.SIDE

    def of(images: Tensor) -> Tensor:
        values = (resized(images, side, side) + 1) * 127.5
        return network((values - 128) / 128)

    def classes(features: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network.classes(torch.from_numpy(features).to(device)).softmax(dim=1).cpu().numpy()

    law = f"bicubic with antialiasing to {side}x{side}, not rounded"
    return FeatureNetwork("inception", model_hash(path), law, of, classes=classes, device=device)


def clip(weights: str | None, device: str) -> FeatureNetwork:
    """Image embeddings, not normalized; texts into the same space."""
    folder = locate_network(_given(weights, "clip", "a folder or hub id of transformers' CLIPModel"))
    model = load_clip(folder, device)
    side = model.vision.config.image_size
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (MEAN, STD))
    config = model.text.config
    tokenizer = ClipTokenizer(config.length, None, model.folder, rows=config.vocabulary)

    def of(images: Tensor) -> Tensor:
        return model.vision(((center_square(images, side) + 1) / 2 - mean) / std)

    def texts(captions: Sequence[str]) -> Texts:
        tokens = [tokenizer.tokens(caption) for caption in captions]
        rows = []
        with torch.no_grad():
            for start in range(0, len(tokens), 64):
                framed = torch.tensor([tokenizer.frame(t) for t in tokens[start : start + 64]], device=device)
                pooled = model.text(framed, pooled=True).pooled
                assert pooled is not None, "asked for above"
                rows.append(F.normalize(pooled.float(), dim=1).cpu().numpy())
        return Texts(np.concatenate(rows), sum(len(t) > config.length - 2 for t in tokens))

    law = f"bicubic with antialiasing to {side}, the middle square"
    return FeatureNetwork("clip", model_hash(model.weights), law, of, texts=texts, device=device)


def dinov2(weights: str | None, device: str) -> FeatureNetwork:
    """The class token behind the last norm."""
    path = locate_network(_given(weights, "dinov2", "a file such as dinov2_vitl14_pretrain.pth"))
    file = path / "model.safetensors" if os.path.isdir(path) else path
    network = load_dino(file, device)
    side = 16 * network.config.patch  # 224 for patches of 14

    def of(images: Tensor) -> Tensor:
        return network(normalize_image(resized(images, side, side).clamp(-1, 1)))

    law = f"bicubic with antialiasing to {side}x{side}"
    return FeatureNetwork("dinov2", model_hash(file), law, of, device=device)


def _given(weights: str | None, name: str, what: str) -> str:
    if weights is None:
        raise InputError(f"the network {name} needs its weights, expected is {name}=PATH with {what}")
    return weights


FEATURES.add("judge", judge)
FEATURES.add("inception", inception, "inception-v3", "fid")
FEATURES.add("clip", clip)
FEATURES.add("dinov2", dinov2, "dino")
