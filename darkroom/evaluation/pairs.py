"""How near pictures are to the very pictures that they should be: PSNR, SSIM (Wang et al. 2004), LPIPS."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.errors import InputError
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.picture_set import PictureSet

__all__ = ["Distance", "PairNumbers", "paired", "psnr", "ssim"]

WINDOW, DEVIATION = 11, 1.5
K1, K2 = 0.01, 0.03
IDENTICAL = 1e-10  # mean squared error of [−1, 1], below which two pictures are the same

Distance = Callable[[Tensor, Tensor], Tensor]


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """(B,) in dB, of pictures (B, 3, H, W) in [−1, 1]; infinite for equal ones."""
    error = (a - b).double().square().flatten(1).mean(dim=1)
    return torch.where(error < IDENTICAL, torch.inf, -10 * (error / 4).log10())


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """(B,), the mean over channels and over all places where a Gaussian window of 11 pixels fits, of [−1, 1]."""
    if min(a.shape[-2:]) < WINDOW:
        raise InputError(f"SSIM needs pictures of at least {WINDOW} pixels, these are {a.shape[-1]}x{a.shape[-2]}")
    offsets = torch.arange(WINDOW, dtype=torch.float64, device=a.device) - WINDOW // 2
    taps = torch.exp(-offsets.square() / (2 * DEVIATION**2))
    taps = taps / taps.sum()

    def local(x: Tensor) -> Tensor:
        x = F.conv2d(x, taps.view(1, 1, -1, 1).expand(3, 1, -1, 1), groups=3)
        return F.conv2d(x, taps.view(1, 1, 1, -1).expand(3, 1, 1, -1), groups=3)

    a, b = ((x.double() + 1) / 2 for x in (a, b))
    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a.square(), local(b * b) - mean_b.square()
    both = local(a * b) - mean_a * mean_b
    brightness = (2 * mean_a * mean_b + K1**2) / (mean_a.square() + mean_b.square() + K1**2)
    structure = (2 * both + K2**2) / (var_a + var_b + K2**2)
    return (brightness * structure).mean(dim=(1, 2, 3))


class PairNumbers:
    """PSNR, SSIM and, with a `distance`, LPIPS over pairs that come in batches; means with their 95 % intervals."""

    def __init__(self, distance: Distance | None = None) -> None:
        self.distance = distance
        self.values: dict[str, list[float]] = {"psnr": [], "ssim": []} | ({} if distance is None else {"lpips": []})

    @torch.no_grad()
    def update(self, pictures: Tensor, truth: Tensor) -> None:
        """Take in pairs (B, 3, H, W) in [−1, 1]; `InputError` for unlike sizes."""
        if pictures.shape != truth.shape:
            sizes = [f"{t.shape[-1]}x{t.shape[-2]}" for t in (pictures, truth)]
            raise InputError(f"pictures of {sizes[0]} cannot be compared with ones of {sizes[1]} pixel by pixel")
        self.values["psnr"] += psnr(pictures, truth).tolist()
        self.values["ssim"] += ssim(pictures, truth).tolist()
        if self.distance is not None:
            self.values["lpips"] += self.distance(truth, pictures).tolist()

    def __len__(self) -> int:
        return len(self.values["psnr"])

    def result(self) -> Mapping[str, Measured]:
        """The note tells the deviation over pictures, which papers print behind ±."""
        return {name: _spread(np.array(values)) for name, values in self.values.items()}


def paired(pictures: PictureSet, truth: PictureSet) -> list[tuple[int, int]]:
    """The numbers of pictures of one name in two sets, their endings aside. `InputError` for one without its twin."""
    if os.path.realpath(pictures.path) == os.path.realpath(truth.path):
        raise InputError(f"both sets are {pictures.path}: pictures against themselves say nothing")
    ours, theirs = ({s.dataset.name(i).rpartition(".")[0]: i for i in range(len(s))} for s in (pictures, truth))
    if alone := sorted(ours.keys() ^ theirs.keys()):
        where = pictures.path if alone[0] in ours else truth.path
        raise InputError(f"{len(alone)} pictures have no twin in the other set, the first is {alone[0]} in {where}")
    return [(i, theirs[name]) for name, i in ours.items()]


def _spread(values: np.ndarray) -> Measured:
    different = values[np.isfinite(values)]
    if not len(different):
        raise InputError(f"all {len(values)} pairs are the same pictures twice: they say nothing")
    found = mean_of(different)
    notes = [f"± {different.std():.3g} over pictures"] if len(different) > 1 else [found.note]
    if len(different) < len(values):
        notes.append(f"{len(values) - len(different)} pairs are the same picture twice and are left out")
    return replace(found, note="; ".join(notes))
