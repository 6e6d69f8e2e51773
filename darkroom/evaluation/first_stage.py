"""The ceiling that a first stage sets: what true scenes look like after encoding and decoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from darkroom.data.picturebook import render, sample_scene
from darkroom.errors import require
from darkroom.evaluation.judging import STREAM, Accuracy, judge_accuracy
from darkroom.evaluation.pairs import psnr
from darkroom.models.judge import Judge
from darkroom.pixels import to_tensor
from darkroom.systems.build import LatentDiffusion

__all__ = ["Ceiling", "first_stage_ceiling", "grid_strength"]

BATCH = 32


@dataclass(frozen=True)
class Ceiling:
    """Over true scenes that training did not draw."""

    psnr: float  # dB, mean over pictures
    worst_psnr: float
    grid: float  # see `grid_strength`
    true: Accuracy  # what the judge finds in the scenes …
    decoded: Accuracy  # … and in what the first stage makes of them


def grid_strength(error: Tensor, period: int) -> float:
    """How far a grid of `period` pixels stands out of the spectrum of `error` (B, 3, H, W); 1: not at all.

    Power at the multiples of 1 / period along rows and columns over the power of the frequencies beside them.
    """
    ratios = []
    for d in (2, 3):
        power = torch.fft.rfft(error.double().mean(dim=5 - d), dim=2).abs().square().mean(dim=(0, 1))
        n = error.shape[d]
        for k in range(n // period, n // 2 + 1, n // period):
            beside = [j for j in (k - 3, k - 2, k + 2, k + 3) if 0 < j < len(power)]
            ratios.append(float(power[k] / power[beside].mean().clamp(min=1e-12)))
    return float(np.mean(ratios))


@torch.no_grad()
def first_stage_ceiling(model: LatentDiffusion, judge: Judge, count: int = 256) -> Ceiling:
    """Encode and decode `count` held-out scenes. Raises `InputError` for fewer than one."""
    require(count >= 1, "the number of scenes", count, "at least 1")
    size = model.system.defaults.height

    def through(images: Tensor) -> Tensor:
        latents = model.encode_images(images.to(model.device))
        return model.decode_latents(latents).float().clamp(-1, 1).cpu()

    errors, values = [], []
    for start in range(0, count, BATCH):
        numbers = range(start, min(start + BATCH, count))
        scenes = [sample_scene(np.random.default_rng((1, STREAM, i)), split="any") for i in numbers]
        images = to_tensor(np.stack([render(s, size, size) for s in scenes]))
        decoded = through(images)
        errors.append(decoded - images)
        values.append(psnr(decoded, images))
    error, value = torch.cat(errors), torch.cat(values)
    return Ceiling(
        psnr=float(value.mean()),
        worst_psnr=float(value.min()),
        grid=grid_strength(error, max(2, model.autoencoder.config.patch_size)),
        true=judge_accuracy(judge, count, size),
        decoded=judge_accuracy(judge, count, size, through=through),
    )
