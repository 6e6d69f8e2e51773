"""Small pictures among the training data: thrown away, kept unmarked, or kept with their size told (papers G.12)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.replications.claim import CLAIMS, Claim, Outcome, Verdict, apart
from darkroom.evaluation.replications.laboratory import (
    Group,
    Narrow,
    decided,
    drawn,
    features_of,
    learned_denoiser,
    loop,
    painted,
    point,
    scenes,
    sharpness,
    shown,
    tiles,
)  # fmt: skip
from darkroom.evaluation.replications.plot import curves
from darkroom.evaluation.replications.shipped import kernel_between
from darkroom.evaluation.replications.trial import Trial
from darkroom.pictures.labels import labeled_sheet

__all__ = ["Arm", "told_sizes", "verdicts_of", "with_small"]


@dataclass(frozen=True)
class Size:
    side: int  # of pictures in pixels
    pictures: int  # to train on
    steps: int
    batch: int
    measured: int  # pictures


SIZES = {
    "tiny": Size(8, 2500, 250, 64, 300),
    "small": Size(8, 6000, 750, 64, 1000),
    "full": Size(16, 50_000, 20_000, 64, 5000),
}
LARGE = 0.1  # of the pictures
SMALL = (0.25, 0.75)  # of the side have the others
SHOWN = 6


@dataclass(frozen=True)
class Arm:
    name: str
    distance: Measured  # kernel distance to true scenes
    sharpness: np.ndarray  # (N,), of each picture


def with_small(pictures: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """`pictures` (N, 3, s, s) of which nine tenths were small once and have been enlarged; and their sides then (N,),
    as shares of s."""
    rng = np.random.default_rng((seed, 1))
    side = pictures.shape[2]
    found, sides = [], []
    for picture in pictures:
        share = 1.0 if rng.random() < LARGE else float(rng.uniform(*SMALL))
        own = round(share * side)
        if own < side:
            small = F.interpolate(picture[None], size=own, mode="bicubic", antialias=True)
            picture = F.interpolate(small, size=side, mode="bicubic")[0].clamp(-1, 1)
        found.append(picture)
        sides.append(own / side)
    return torch.stack(found), torch.tensor(sides)


def told_sizes(sides: Tensor) -> Conditioning:
    """Sides (N,) as waves, of which the network makes what it needs."""
    waves = sides[:, None] * torch.tensor([1.0, 2.0, 4.0, 8.0])
    return Conditioning(vector=torch.cat([waves.sin(), waves.cos()], dim=1))


def run(trial: Trial) -> Outcome:
    """Three denoisers, each trained for as many steps."""
    size, seed = SIZES[trial.scale], trial.seed
    pictures, sides = with_small(painted(scenes(seed, size.pictures), size.side, size.side), seed)
    truth = painted(scenes(seed, size.measured, first=size.pictures), size.side, size.side)
    how, shape = loop(size.steps, seed, batch=size.batch), tuple(truth.shape)
    large, wide = sides == 1, Narrow(vector=8)
    whole = told_sizes(torch.ones(size.measured))
    of_large = learned_denoiser(Narrow(), [Group(pictures[large])], how)
    unmarked = learned_denoiser(Narrow(), [Group(pictures)], how)
    marked = learned_denoiser(wide, [Group(pictures, told_sizes(sides))], how)
    samples = {
        f"large pictures alone ({int(large.sum())})": drawn(of_large, shape, seed=seed),
        f"all {size.pictures}, unmarked": drawn(unmarked, shape, seed=seed),
        f"all {size.pictures}, sizes told": drawn(marked, shape, whole, seed=seed),
    }
    seen = features_of(truth)
    arms = [Arm(k, kernel_between(features_of(x), seen), sharpness(x.clamp(-1, 1))) for k, x in samples.items()]
    true = sharpness(truth)
    by_told = [
        mean_of(sharpness(drawn(marked, shape, told_sizes(torch.full((size.measured,), s)), seed=seed)))
        for s in (0.25, 0.5, 0.75)
    ]
    told = [*by_told, mean_of(arms[2].sharpness)]
    table = [["trained on", "kernel distance × 1000", "sharpness, of true scenes'"]]
    table += [[a.name, shown(a.distance, 1000), shown(a.sharpness / true.mean())] for a in arms]
    pictures_shown = [p for x in (truth, *samples.values()) for p in tiles(x[:SHOWN])]
    picture = labeled_sheet(pictures_shown, [""] * SHOWN, ["truth", "large", "unmarked", "told"], [""])
    panels = {"sharpness by the size told": [point(m) for m in told]}
    plot = curves("side told, of the whole", ["1/4", "1/2", "3/4", "1"], panels)
    notes = (
        f"{size.side} pixels, {size.steps} steps of {size.batch}, one network of each kind, {size.measured} pictures "
        "measured."
    )
    verdicts = decided(verdicts_of(arms, true, told), truth, *samples.values())
    return Outcome(table, verdicts, plot, picture, notes)


def verdicts_of(arms: list[Arm], true: np.ndarray, told: list[Measured]) -> list[Verdict]:
    """Of the arms (large alone, unmarked, marked), true scenes' sharpness and that by the size told, rising."""
    large, unmarked, marked = arms
    rising = [apart(b, a) for a, b in pairwise(told)]
    return [
        Verdict("unmarked small pictures make soft ones", apart(mean_of(true), mean_of(unmarked.sharpness))),
        Verdict(
            "with sizes told, pictures are sharper than that",
            apart(mean_of(marked.sharpness), mean_of(unmarked.sharpness)),
        ),
        Verdict(
            "telling sizes brings nearer to true scenes than keeping small pictures unmarked",
            apart(unmarked.distance, marked.distance),
        ),
        Verdict(
            "telling sizes brings nearer than throwing small pictures away", apart(large.distance, marked.distance)
        ),
        Verdict("the larger the size told, the sharper", False if False in rising else True if all(rising) else None),
    ]


CLAIMS.add(
    "size-conditioning",
    Claim(
        title="Small pictures: thrown away, unmarked, or with their size told",
        source="Podell et al. 2023, table 2 and figure 3",
        paper="ImageNet at 512: trained on large pictures alone FID 43.84, on all unmarked 39.76, on all with their "
        "sizes told 36.53.",
        protocol="Scenes of one thing; nine tenths were drawn at a quarter to three quarters of the side and enlarged. "
        "One small UNet in pixels for each way, the same steps. Kernel distance (KID) in the judge's features to "
        "unseen scenes at full size; sharpness is the mean difference of neighboring pixels.",
        run=run,
    ),
)
