"""Latents of large variance break pictures larger than those trained on; of unit variance they do not (papers G.11)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.conditioning.conditioning import Conditioning
from darkroom.data.picturebook import Scene
from darkroom.data.picturebook.truth import BACKGROUND, GROUND, SKY, ground_truth
from darkroom.evaluation.kernel import difference
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
    shown,
    tiles,
)  # fmt: skip
from darkroom.evaluation.replications.plot import curves
from darkroom.evaluation.replications.shipped import kernel_between
from darkroom.evaluation.replications.trial import Trial
from darkroom.pictures.labels import labeled_sheet

__all__ = ["Arm", "maps", "run", "sides_apart", "verdicts_of"]


@dataclass(frozen=True)
class Size:
    side: int  # of pictures trained on, in pixels
    pictures: int
    steps: int
    batch: int
    measured: int


SIZES = {
    "tiny": Size(8, 2000, 250, 64, 300),
    "small": Size(16, 4000, 600, 64, 400),
    "full": Size(16, 50_000, 20_000, 64, 5000),
}
FACTOR, WIDER = 2, 4
RAW = 5.5  # deviation of Stable Diffusion's latents before they are scaled by 0.18215
SHOWN = 3


@dataclass(frozen=True)
class Arm:
    """Pictures as large as those trained on, and wider ones."""

    name: str
    square: Measured  # kernel distance to true scenes
    wide: Measured  # of the wide pictures' middle squares to those of true wide scenes
    apart: np.ndarray  # (N,), of `sides_apart` in the wide ones


def maps(found: list[Scene], width: int, height: int) -> Tensor:
    """What is sky, background, ground and thing at each place of the latents: (N, 4, h, w) of 0 and 1."""
    semantic = np.stack([ground_truth(s, width, height).semantic for s in found])
    ids = torch.from_numpy(semantic[:, ::FACTOR, ::FACTOR].astype(np.int64))
    rows = [ids == SKY, ids == BACKGROUND, ids == GROUND]
    return torch.stack([*rows, ~(rows[0] | rows[1] | rows[2])], dim=1).float()


def sides_apart(pictures: Tensor) -> np.ndarray:
    """How unlike the top left and the top right of each of (N, 3, H, W) are, where one sky should be: (N,)."""
    _, _, height, width = pictures.shape
    top = pictures.clamp(-1, 1)[:, :, : height // 4]
    left, right = top[..., : width // 4].mean(dim=(2, 3)), top[..., -(width // 4) :].mean(dim=(2, 3))
    return (left - right).abs().mean(dim=1).numpy()


def run(trial: Trial) -> Outcome:
    """The same denoiser on the same latents, once as large as Stable Diffusion's are before scaling, once scaled."""
    size, seed = SIZES[trial.scale], trial.seed
    found = scenes(seed, size.pictures)
    latents = F.pixel_unshuffle(painted(found, size.side, size.side), FACTOR)
    mean, deviation = latents.mean(), latents.std()
    squares = scenes(seed, size.measured, first=size.pictures)
    wide = scenes(seed, size.measured, first=size.pictures + size.measured, aspect=float(WIDER))
    given = {
        "square": (maps(squares, size.side, size.side), painted(squares, size.side, size.side)),
        "wide": (maps(wide, WIDER * size.side, size.side), painted(wide, WIDER * size.side, size.side)),
    }
    told = Conditioning(channels=maps(found, size.side, size.side))
    seen = {"square": features_of(given["square"][1]), "wide": features_of(_middle(given["wide"][1]))}
    arms, shown_pictures, squares = [], [*tiles(given["wide"][1][:SHOWN])], []
    for name, spread in (("raw", RAW), ("scaled", 1.0)):
        scaled = (latents - mean) / deviation * spread
        unet = learned_denoiser(
            Narrow(latents.shape[1], told=4, fold=1), [Group(scaled, told)], loop(size.steps, seed, batch=size.batch)
        )
        made = {}
        for shape, (channels, _) in given.items():
            z = drawn(unet, (size.measured, *scaled.shape[1:2], *channels.shape[2:]), Conditioning(channels=channels),
                      seed=seed, steps=20)  # fmt: skip
            made[shape] = F.pixel_shuffle(z / spread * deviation + mean, FACTOR)
        distances = (
            kernel_between(features_of(made["square"]), seen["square"]),
            kernel_between(features_of(_middle(made["wide"])), seen["wide"]),
        )
        arms.append(Arm(name, *distances, sides_apart(made["wide"])))
        shown_pictures += tiles(made["wide"][:SHOWN])
        squares.append(made["square"])
    true = sides_apart(given["wide"][1])
    table = [["latents", "kernel distance × 1000, as trained", "four times as wide", "left and right of the sky apart"]]
    table += [[a.name, shown(a.square, 1000), shown(a.wide, 1000), shown(a.apart)] for a in arms]
    table.append(["true scenes", "", "", shown(true)])
    panels = {
        "distance, as trained": [point(a.square) for a in arms],
        "distance, wide": [point(a.wide) for a in arms],
        "sky apart": [point(mean_of(a.apart)) for a in arms],
    }
    picture = labeled_sheet(shown_pictures, [""] * SHOWN, ["truth", "raw", "scaled"], [""])
    notes = (
        f"{size.side} pixels trained on, {size.steps} steps of {size.batch}; {size.measured} pictures each. Latents "
        f"are the pixels of squares of {FACTOR}, of deviation {RAW} and 1."
    )
    # Wide pictures of raw latents are not asked: it is the claim that these fall apart.
    verdicts = decided(verdicts_of(arms[0], arms[1], true), given["square"][1], *squares, made["wide"])
    return Outcome(table, verdicts, curves("", ["raw", "scaled"], panels), picture, notes)


def _middle(pictures: Tensor) -> Tensor:
    """The middle squares of wide pictures."""
    height, width = pictures.shape[2:]
    left = (width - height) // 2
    return pictures[..., left : left + height]


def verdicts_of(raw: Arm, scaled: Arm, true: np.ndarray) -> list[Verdict]:
    """By the intervals of distances and means; `true` (N,) is of true wide scenes."""
    loses = [difference(a.wide, a.square) for a in (raw, scaled)]
    return [
        Verdict(
            "with raw latents, wide pictures are further from true ones than with scaled ones",
            apart(raw.wide, scaled.wide),
        ),
        Verdict("raw latents lose more by the size than scaled ones do", apart(*loses)),
        Verdict("wide pictures hang together less with raw latents", apart(mean_of(raw.apart), mean_of(scaled.apart))),
        Verdict("and less than true scenes do", apart(mean_of(raw.apart), mean_of(true))),
    ]


CLAIMS.add(
    "latent-scale",
    Claim(
        title="The scale of latents decides whether larger pictures hold together",
        source="Rombach et al. 2022, figure 15 and section D.1",
        paper="Latents of a KL first stage have a large variance, so that a denoiser settles what is where too early; "
        "convolutional samples beyond the training size fall apart. Divided by their deviation they hold together. No "
        "numbers.",
        protocol="A small convolutional UNet that is given a map of sky, background, ground and things, on latents as "
        "spread as Stable Diffusion's before scaling and on the same of unit spread; nothing else differs. Drawn at "
        "the training size and four times as wide. One sky spans a scene: how unlike its ends are is measured, too.",
        run=run,
    ),
)
