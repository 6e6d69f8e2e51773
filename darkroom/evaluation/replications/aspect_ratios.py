"""Trained on squares, a model is worse the further a picture is from one; buckets cure it (papers G.14)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.evaluation.metric import Measured
from darkroom.evaluation.replications.claim import CLAIMS, Claim, Outcome, Verdict, apart, no_higher
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
    shown,
    tiles,
)  # fmt: skip
from darkroom.evaluation.replications.plot import curves
from darkroom.evaluation.replications.shipped import kernel_between
from darkroom.evaluation.replications.trial import Trial
from darkroom.pictures.labels import labeled_sheet

__all__ = ["run", "verdicts_of"]


@dataclass(frozen=True)
class Size:
    side: int  # of the square in pixels
    pictures: int  # of each shape
    steps: int
    batch: int
    measured: int


SIZES = {
    "tiny": Size(16, 1200, 250, 64, 300),
    "small": Size(16, 2500, 750, 64, 1000),
    "full": Size(32, 20_000, 20_000, 64, 5000),
}
RATIOS = (0.25, 1.0, 4.0)  # width / height, all of one area
SHOWN = 4


def run(trial: Trial) -> Outcome:
    """One denoiser of squares, one of pictures of all shapes that is told the shape; the same steps."""
    size, seed = SIZES[trial.scale], trial.seed
    shapes = {r: (round(size.side * r**0.5), round(size.side / r**0.5)) for r in RATIOS}  # width, height
    how = loop(size.steps, seed, batch=size.batch)
    train = {r: painted(scenes(seed, size.pictures, aspect=r), *shapes[r]) for r in RATIOS}
    square = learned_denoiser(Narrow(fold=4), [Group(train[1.0])], how)
    groups = [Group(x, _told(shapes[r], size, len(x))) for r, x in train.items()]
    buckets = learned_denoiser(Narrow(vector=2, fold=4), groups, how)
    squares: tuple[Tensor, ...] = ()
    listed: list[np.ndarray] = []
    found: dict[str, list[Measured]] = {"squares alone": [], "buckets, shape told": []}
    for r in RATIOS:
        width, height = shapes[r]
        truth = painted(scenes(seed, size.measured, first=size.pictures, aspect=r), width, height)
        seen = features_of(truth)
        shape = (size.measured, 3, height, width)
        told = _told(shapes[r], size, size.measured)
        made = drawn(square, shape, seed=seed), drawn(buckets, shape, told, seed=seed)
        for distances, x in zip(found.values(), made):
            distances.append(kernel_between(features_of(x), seen))
        listed += [p for x in (truth, *made) for p in tiles(x[:SHOWN], 3 * height)]
        if r == 1:
            squares = made
    names = [f"{w} × {h}" for w, h in shapes.values()]
    table = [["kernel distance × 1000, trained on", *names]]
    table += [[name, *(shown(m, 1000) for m in row)] for name, row in found.items()]
    plot = curves("width × height", names, {name: [point(m) for m in row] for name, row in found.items()})
    notes = f"{size.steps} steps of {size.batch}, {size.pictures} pictures of each shape, {size.measured} measured."
    verdicts = decided(verdicts_of(*found.values()), train[1.0], *squares)
    picture = labeled_sheet(listed, [""] * SHOWN, ["truth", *found], [f"{w} by {h}" for w, h in shapes.values()])
    return Outcome(table, verdicts, plot, picture, notes)


def _told(shape: tuple[int, int], size: Size, count: int) -> Conditioning:
    """The target size, relative to the square."""
    return Conditioning(vector=(torch.tensor([shape]) / size.side).log().repeat(count, 1))


def verdicts_of(square: list[Measured], buckets: list[Measured]) -> list[Verdict]:
    """Distances at the ratios, the square in the middle."""
    tall, middle, wide = zip(square, buckets)
    return [
        Verdict("trained on squares, tall pictures are further from true ones than squares", apart(tall[0], middle[0])),
        Verdict("trained on squares, wide pictures are further from true ones than squares", apart(wide[0], middle[0])),
        Verdict("buckets bring tall pictures nearer", apart(*tall)),
        Verdict("buckets bring wide pictures nearer", apart(*wide)),
        Verdict("squares pay nothing for it that can be told", no_higher(middle[1], middle[0])),
    ]


CLAIMS.add(
    "aspect-ratios",
    Claim(
        title="Shapes other than squares need buckets",
        source="Podell et al. 2023, section 2.3",
        paper="After training on squares SDXL is fine-tuned in buckets of many shapes and told the target size; then "
        "it draws any listed shape well. No numbers.",
        protocol="Scenes composed for their shape, of one area. One small UNet in pixels sees squares alone, the other "
        "all shapes in buckets, told the target size; as many steps. Kernel distance (KID) in the judge's features to "
        "true scenes of the same shape.",
        run=run,
    ),
)
