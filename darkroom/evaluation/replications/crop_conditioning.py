"""Random crops cut scenes off; told where they were cut, a model need not (papers G.13)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from darkroom.conditioning.conditioning import Conditioning
from darkroom.evaluation.metric import Measured, mean_of
from darkroom.evaluation.replications.claim import CLAIMS, Claim, Outcome, Verdict
from darkroom.evaluation.replications.laboratory import (
    Group,
    Narrow,
    decided,
    drawn,
    learned_denoiser,
    loop,
    painted,
    point,
    scenes,
    shown,
    tiles,
)  # fmt: skip
from darkroom.evaluation.replications.plot import curves
from darkroom.evaluation.replications.trial import Trial
from darkroom.pictures.labels import labeled_sheet

__all__ = ["cropped", "horizons", "run", "slope", "verdicts_of"]


@dataclass(frozen=True)
class Size:
    side: int  # of crops in pixels
    pictures: int
    steps: int
    batch: int
    measured: int


SIZES = {
    "tiny": Size(8, 2500, 250, 64, 300),
    "small": Size(8, 6000, 750, 64, 1000),
    "full": Size(16, 50_000, 20_000, 64, 5000),
}
SHOWN = 6


def cropped(pictures: Tensor, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """Squares of `side` cut at random heights from pictures (N, 3, h, side), and where they begin (N,)."""
    rng = np.random.default_rng((seed, 1))
    tops = rng.integers(0, pictures.shape[2] - side, size=len(pictures), endpoint=True)
    return torch.stack([x[:, t : t + side] for x, t in zip(pictures, tops)]), torch.tensor(tops)


def told_tops(tops: Tensor, most: int) -> Conditioning:
    """Where crops begin (N,), 0 to `most`, as waves."""
    waves = tops[:, None] / most * torch.tensor([1.0, 2.0, 4.0, 8.0])
    return Conditioning(vector=torch.cat([waves.sin(), waves.cos()], dim=1))


def horizons(pictures: Tensor) -> np.ndarray:
    """The row of each of (N, 3, h, w) above which the sky ends: where means of rows change most, in pixels (N,)."""
    change = pictures.clamp(-1, 1).mean(dim=3).diff(dim=2).square().sum(dim=1)
    return (change.argmax(dim=1) + 1).numpy().astype(float)


def slope(tops: np.ndarray, rows: np.ndarray) -> Measured:
    """Of the line of least squares through (N,) horizons over (N,) tops, with its 95 % interval."""
    x = tops - tops.mean()
    value = float((x * rows).sum() / np.square(x).sum())
    rest = rows - rows.mean() - value * x
    reach = 1.96 * float(np.square(rest).sum() / (len(x) - 2) / np.square(x).sum()) ** 0.5
    return Measured(value, (value - reach, value + reach))


def run(trial: Trial) -> Outcome:
    """Two denoisers of crops, one of which is told where each begins."""
    size, seed = SIZES[trial.scale], trial.seed
    most, height = size.side // 2, size.side + size.side // 2
    whole = painted(scenes(seed, size.pictures, aspect=size.side / height), size.side, height)
    crops, tops = cropped(whole, size.side, seed)
    truth = painted(scenes(seed, size.measured, first=size.pictures, aspect=size.side / height), size.side, height)
    how, shape = loop(size.steps, seed, batch=size.batch), (size.measured, 3, size.side, size.side)
    plain = drawn(learned_denoiser(Narrow(), [Group(crops)], how), shape, seed=seed)
    told = learned_denoiser(Narrow(vector=8), [Group(crops, told_tops(tops, most))], how)
    places = [0, most // 2, most]
    by_top = {t: drawn(told, shape, told_tops(torch.full((size.measured,), t), most), seed=seed) for t in places}
    uncropped = truth[:, :, : size.side]
    rows = {
        "true scenes, cut at 0": horizons(uncropped),
        "crops, nothing told": horizons(plain),
        **{f"crops, told {t}": horizons(x) for t, x in by_top.items()},
    }
    found = slope(
        np.repeat(places, size.measured).astype(float), np.concatenate([horizons(x) for x in by_top.values()])
    )
    true = slope(
        np.repeat(places, size.measured).astype(float),
        np.concatenate([horizons(truth[:, :, t : t + size.side]) for t in places]),
    )
    table = [["pictures", "horizon, pixels from the top"], *([name, shown(h)] for name, h in rows.items())]
    table.append(["slope of the horizon over the top told", shown(found)])
    table.append(["slope in true scenes", shown(true)])
    pictures = [p for x in (uncropped, plain, *by_top.values()) for p in tiles(x[:SHOWN])]
    named = ["truth at 0", "nothing told", *(f"told {t}" for t in places)]
    picture = labeled_sheet(pictures, [""] * SHOWN, named, [""])
    means = [mean_of(h) for h in rows.values()]
    plot = curves("", ["truth", "plain", *map(str, places)], {"horizon, pixels": [point(m) for m in means]})
    notes = (
        f"Crops of {size.side} pixels of scenes {height} high, {size.steps} steps of {size.batch}; {size.measured} "
        "pictures each."
    )
    verdicts = decided(verdicts_of(means[0], means[1], means[2], found, true), crops, plain, *by_top.values())
    return Outcome(table, verdicts, plot, picture, notes)


def verdicts_of(
    true: Measured, plain: Measured, at_zero: Measured, found: Measured, true_slope: Measured
) -> list[Verdict]:
    """By mean horizons: of true scenes cut at 0, of the model that is told nothing and of the other told 0; and by
    slopes over the top told."""
    assert found.interval is not None, "of a line through many"
    nearer = abs(at_zero.value - true.value), abs(plain.value - true.value)
    reach = sum((m.interval[1] - m.interval[0]) / 2 for m in (at_zero, plain) if m.interval is not None)
    return [
        Verdict(
            "told where crops begin, a model moves its pictures by that: the slope of the horizon is negative",
            True if found.interval[1] < 0 else False if found.interval[0] > 0 else None,
        ),
        Verdict(
            "and by about as many pixels: the slope lies within a third of that in true scenes",
            abs(found.value - true_slope.value) <= abs(true_slope.value) / 3,
        ),
        Verdict(
            "told (0, 0), its pictures are less cut off than those of a model that is told nothing",
            True if nearer[1] - nearer[0] > reach else False if nearer[0] - nearer[1] > reach else None,
        ),
    ]


CLAIMS.add(
    "crop-conditioning",
    Claim(
        title="Random crops, told or not",
        source="Podell et al. 2023, figures 4 and 5",
        paper="Stable Diffusion 1.5 and 2.1 cut heads off, as their training data do; SDXL, told crop coordinates and "
        "asked for (0, 0), does not, and other coordinates move the cut. No numbers.",
        protocol="Scenes half as high again as wide, of which random squares are cut out. Two small UNets in pixels, "
        "one of which is told where its square begins. Where things are is measured by the horizon: the row at which "
        "the mean color of rows changes most.",
        run=run,
    ),
)
