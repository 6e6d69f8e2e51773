"""How far a first stage should compress: little learns slowly, much loses too much (papers G.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from darkroom.evaluation.kernel import difference
from darkroom.evaluation.metric import Measured
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

__all__ = ["Arm", "Patches", "run", "verdicts_of"]


@dataclass(frozen=True)
class Size:
    side: int  # of pictures in pixels
    factors: tuple[tuple[int, int], ...]  # f and the channels of its latents
    pictures: int
    steps: int
    batch: int
    measured: int


SIZES = {
    "tiny": Size(16, ((1, 3), (2, 6), (4, 12), (8, 16)), 2000, 200, 16, 300),
    "small": Size(16, ((1, 3), (2, 6), (4, 12), (8, 16)), 6000, 1000, 16, 1000),
    "full": Size(32, ((1, 3), (2, 6), (4, 12), (8, 24), (16, 48)), 50_000, 20_000, 64, 5000),
}
EARLY = 0.2  # of the steps
SHOWN = 6


class Patches:
    """The best linear first stage for `pictures` (N, 3, s, s): principal components of patches of f × f pixels."""

    def __init__(self, pictures: Tensor, factor: int, channels: int) -> None:
        self.factor = factor
        rows = F.pixel_unshuffle(pictures, factor).movedim(1, 3).flatten(0, 2).double()
        self.mean = rows.mean(dim=0)
        _, vectors = torch.linalg.eigh((rows - self.mean).T @ (rows - self.mean) / len(rows))
        self.basis = vectors.flip(1)[:, :channels]  # (3 f², channels), the most telling first
        self.scale = float(((rows - self.mean) @ self.basis).std())

    def encode(self, pictures: Tensor) -> Tensor:
        """To latents (N, channels, s / f, s / f) of unit variance over all."""
        x = F.pixel_unshuffle(pictures, self.factor).movedim(1, 3).double()
        return ((x - self.mean) @ self.basis / self.scale).movedim(3, 1).float().contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """Back to pictures."""
        x = latents.movedim(1, 3).double() * self.scale @ self.basis.T + self.mean
        return F.pixel_shuffle(x.movedim(3, 1).float().contiguous(), self.factor)


@dataclass(frozen=True)
class Arm:
    """Kernel distances to true scenes."""

    factor: int
    floor: Measured  # of true scenes through the first stage
    early: Measured  # after a fifth of the steps
    late: Measured

    @property
    def lacking(self) -> Measured:
        """How much further than its first stage alone it is."""
        return difference(self.late, self.floor)


def run(trial: Trial) -> Outcome:
    """A denoiser for every factor, with as many steps."""
    size, seed = SIZES[trial.scale], trial.seed
    pictures = painted(scenes(seed, size.pictures), size.side, size.side)
    truth = painted(scenes(seed, size.measured, first=size.pictures), size.side, size.side)
    seen = features_of(painted(scenes(seed, size.measured, first=size.pictures + size.measured), size.side, size.side))
    arms, rows, last = [], [*tiles(truth[:SHOWN])], []
    for factor, channels in size.factors:
        stage = Patches(pictures, factor, channels)
        group = Group(stage.encode(pictures))
        shape = (size.measured, channels, size.side // factor, size.side // factor)
        found = []
        for steps in (round(EARLY * size.steps), size.steps):
            unet = learned_denoiser(Narrow(channels, fold=1), [group], loop(steps, seed, batch=size.batch))
            found.append(stage.decode(drawn(unet, shape, seed=seed)))
        floor = stage.decode(stage.encode(truth))
        arms.append(Arm(factor, *(kernel_between(features_of(x), seen) for x in (floor, *found))))
        rows += tiles(found[-1][:SHOWN])
        last.append(found[-1])
    names = [f"f = {a.factor}" for a in arms]
    early, late = round(EARLY * size.steps), size.steps
    table = [["kernel distance × 1000", "first stage alone", f"after {early} steps", f"after {late} steps"]]
    table += [[name, *(shown(m, 1000) for m in (a.floor, a.early, a.late))] for name, a in zip(names, arms)]
    panels = {
        f"after {early} steps": [point(a.early) for a in arms],
        f"after {late} steps": [point(a.late) for a in arms],
        "first stage alone": [point(a.floor) for a in arms],
    }
    picture = labeled_sheet(rows, [""] * SHOWN, ["truth", *names], [""])
    notes = f"{size.side} pixels, batches of {size.batch}, networks of about one size; {size.measured} pictures."
    best = min(range(len(arms)), key=lambda i: arms[i].late.value)  # of the others it is the claim how far they come
    verdicts = decided(verdicts_of(arms), truth, last[best])
    return Outcome(table, verdicts, curves("factor", [str(a.factor) for a in arms], panels), picture, notes)


def verdicts_of(arms: list[Arm]) -> list[Verdict]:
    """Of factors, the least first; what the intervals do not tell apart is left open."""
    least, *between, most = arms
    best = min(arms, key=lambda a: a.late.value)
    if best in between:
        inside = _all([apart(a.late, best.late) for a in (least, most)])
    else:
        inside = False if all(apart(a.late, best.late) for a in between) else None
    return [
        Verdict(
            "pixels learn most slowly: they are furthest from true scenes after a fifth of the steps",
            _all([apart(least.early, a.early) for a in (*between, most)]),
        ),
        Verdict("the best factor is neither the least nor the most", inside),
        Verdict(
            "the strongest compression comes nearest to what its first stage allows",
            _all([apart(a.lacking, most.lacking) for a in (least, *between)]),
        ),
    ]


def _all(orders: list[bool | None]) -> bool | None:
    """Whether all orders are as said; None where none is the other way round and some are not told."""
    return False if False in orders else None if None in orders else True


CLAIMS.add(
    "compression",
    Claim(
        title="How far a first stage should compress",
        source="Rombach et al. 2022, figures 6 and 7",
        paper="ImageNet by classes: after 2 million steps LDM-8 is better than LDM-1 by 38 FID; LDM-1 and 2 learn "
        "slowly, LDM-32 stagnates early, 4 to 16 are balanced.",
        protocol="The first stage is the best linear one, principal components of patches, so that no training of it "
        "can be blamed; factor 1 is pixels. One small UNet for each, the same steps. Kernel distance (KID) in the "
        "judge's features to unseen scenes.",
        run=run,
    ),
)
