"""A second denoiser for the last, least noisy stretch (papers G.16)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from darkroom.diffusion.objective import DiffusionLossConfig
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.replications.claim import CLAIMS, Claim, Outcome, Verdict, above_zero, no_higher
from darkroom.evaluation.replications.laboratory import (
    PROCESS,
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

__all__ = ["Arm", "run", "verdicts_of"]


@dataclass(frozen=True)
class Size:
    side: int
    pictures: int
    steps: int  # of the base; as many again of the refiner, or of the base trained on
    batch: int
    measured: int


SIZES = {
    "tiny": Size(8, 2500, 200, 64, 300),
    "small": Size(8, 6000, 600, 64, 1000),
    "full": Size(16, 50_000, 16_000, 64, 5000),
}
LAST = 199  # the refiner's noisiest timestep
SHOWN = 6


@dataclass(frozen=True)
class Arm:
    name: str
    distance: Measured
    sharpness: np.ndarray  # (N,), of the same seeds in every arm


def run(trial: Trial) -> Outcome:
    """The base, the base trained for as many steps again, and the base with a refiner trained for those steps."""
    size, seed = SIZES[trial.scale], trial.seed
    group = Group(painted(scenes(seed, size.pictures), size.side, size.side))
    truth = painted(scenes(seed, size.measured, first=size.pictures), size.side, size.side)
    how, shape = loop(size.steps, seed, batch=size.batch), tuple(truth.shape)
    again = replace(how, seed=seed + 1)  # other samples, other noise
    base = learned_denoiser(Narrow(), [group], how)
    longer = learned_denoiser(Narrow(), [group], again, begin=base)
    fine = learned_denoiser(Narrow(), [group], again, begin=base, loss=DiffusionLossConfig(max_timestep=LAST))
    level = float(PROCESS.sigmas[LAST])
    samples = {
        "base": drawn(base, shape, seed=seed, steps=20),
        "base, trained on": drawn(longer, shape, seed=seed, steps=20),
        "base, then refiner": drawn(base, shape, seed=seed, steps=20, late=(fine, level)),
    }
    seen, true = features_of(truth), sharpness(truth).mean()
    arms = [Arm(k, kernel_between(features_of(x), seen), sharpness(x.clamp(-1, 1)) / true) for k, x in samples.items()]
    table = [["drawn by", "kernel distance × 1000", "sharpness, of true scenes'"]]
    table += [[a.name, shown(a.distance, 1000), shown(a.sharpness)] for a in arms]
    names = ["base", "longer", "refined"]
    panels = {
        "kernel distance": [point(a.distance) for a in arms],
        "sharpness": [point(mean_of(a.sharpness)) for a in arms],
    }
    pictures = [p for x in (truth, *samples.values()) for p in tiles(x[:SHOWN])]
    picture = labeled_sheet(pictures, [""] * SHOWN, ["truth", *names], [""])
    notes = (
        f"{size.side} pixels, {size.steps} steps of {size.batch} and as many again, the same seeds; the refiner takes "
        f"over at timestep {LAST}. {size.measured} pictures each."
    )
    return Outcome(
        table, decided(verdicts_of(*arms), truth, *samples.values()), curves("", names, panels), picture, notes
    )


def verdicts_of(base: Arm, longer: Arm, refined: Arm) -> list[Verdict]:
    """Sharpness picture by picture, as seeds are shared; distances between sets."""
    off = [np.abs(1 - a.sharpness.mean()) for a in (base, refined)]
    differs = above_zero(refined.sharpness - base.sharpness) is not None
    return [
        Verdict(
            "handing over to a refiner is no worse than the base alone", no_higher(refined.distance, base.distance)
        ),
        Verdict(
            "nor worse than the base trained for the refiner's steps", no_higher(refined.distance, longer.distance)
        ),
        Verdict("sharpness comes nearer to that of true scenes", bool(off[1] < off[0]) if differs else None),
    ]


CLAIMS.add(
    "refiner",
    Claim(
        title="A refiner for the last steps",
        source="Podell et al. 2023, figures 1, 6 and 13",
        paper="Of four models people prefer SDXL with its refiner in 48.44 % of comparisons and the base alone in "
        "36.93 %.",
        protocol="A small UNet in pixels. The refiner begins with its weights and is trained on the 200 least noisy "
        "timesteps alone, where it takes over; beside it the base trained for those steps on all. Kernel distance "
        "(KID) in the judge's features to unseen scenes.",
        run=run,
    ),
)
